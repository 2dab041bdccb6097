// Checks the tensors of a Hugging Face folder against those of its architecture. It reads headers, not values.
import { access, open } from 'node:fs/promises';
import { join } from 'node:path';
import { sameShape } from '../engine/graph.ts';
import type { StoredTensor } from '../engine/program.ts';
import { readModelHeaders } from '../formats/safetensors.ts';
import { listNames, ModelError } from './model-error.ts';

export interface ExpectedWeights {
  /** Name of the architecture, for messages. */
  readonly architecture: string;
  readonly expected: Readonly<Record<string, readonly number[]>>;
  /**
   * Names under which the files may contain a tied tensor again, or instead: alias -> name. Expected names are no
   * aliases.
   */
  readonly copies: Readonly<Record<string, string>>;
  /** Maps a name in the files to its name in `expected`; null for tensors to ignore. */
  canonicalName(name: string): string | null;
  /** Whether a canonical name belongs to a known task head that is not used. */
  isHead(name: string): boolean;
}

export interface OpenedWeights {
  /** Exactly the expected tensors, in their order. */
  readonly weights: Record<string, StoredTensor>;
  /** Tensors of task heads that the files contain in addition. */
  readonly leftOut: Record<string, StoredTensor>;
}

/** Throws ModelError saying which tensors are missing, unknown or of the wrong shape. */
export async function openWeights(
  directory: string,
  headers: Readonly<Record<string, StoredTensor>>,
  { architecture, expected, copies, canonicalName, isHead }: ExpectedWeights,
): Promise<OpenedWeights> {
  const named = canonicalNames(canonicalName, headers);
  const leftOut = difference(named, expected).filter(isHead);
  const used = Object.fromEntries(Object.entries(named).filter(([name]) => !leftOut.includes(name)));
  const found = { ...used };
  for (const [copy, own] of Object.entries(copies))
    if (!Object.hasOwn(expected, copy)) await resolveTied(directory, found, copy, own);
  refuseNames(directory, 'lacks', difference(expected, found), 'as F32, F16 or BF16');
  refuseNames(directory, 'has', difference(found, expected), `which ${architecture} does not know`);
  refuseShapes(directory, expected, found);
  const weights = Object.fromEntries(Object.keys(expected).map(name => [name, found[name]!]));
  return { weights, leftOut: Object.fromEntries(leftOut.map(name => [name, named[name]!])) };
}

async function requireSafetensors(directory: string): Promise<void> {
  const names = ['model.safetensors', 'model.safetensors.index.json'];
  const found = await Promise.allSettled(names.map(name => access(join(directory, name))));
  if (found.some(({ status }) => status === 'fulfilled')) return;
  throw new ModelError(
    `${directory} has neither ${names.join(' nor ')}; save the model with save_pretrained(safe_serialization=True)`,
  );
}

/** Locates the tensors. A broken or missing file is a ModelError; a disk error is not. */
export async function readTensorHeaders(directory: string): Promise<Record<string, StoredTensor>> {
  await requireSafetensors(directory);
  try {
    return (await readModelHeaders(directory)).tensors;
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code !== undefined && code !== 'ENOENT') throw cause;
    throw new ModelError(`${directory}: ${message}`, { cause });
  }
}

/** The tensors under their canonical names, without those to ignore. */
function canonicalNames(
  canonicalName: (name: string) => string | null,
  read: Readonly<Record<string, StoredTensor>>,
): Record<string, StoredTensor> {
  const named = Object.entries(read).map(([name, stored]) => [canonicalName(name), stored] as const);
  return Object.fromEntries(named.filter(([name]) => name !== null));
}

/**
 * Replaces the alias `copy` of a tied tensor by `own` in `found`. If both exist and differ it throws: transformers 4
 * would use the embedding for both, transformers 5 would not tie them.
 */
async function resolveTied(
  directory: string,
  found: Record<string, StoredTensor>,
  copy: string,
  own: string,
): Promise<void> {
  const { [copy]: held, [own]: embedding } = found;
  if (!held) return;
  if (embedding && !(await sameBytes(held, embedding)))
    throw new ModelError(
      `${directory} has a ${copy} that differs from ${own}, but its config.json ties them (tie_word_embeddings)`,
    );
  found[own] ??= held;
  delete found[copy];
}

function refuseShapes(
  directory: string,
  expected: Readonly<Record<string, readonly number[]>>,
  found: Readonly<Record<string, StoredTensor>>,
): void {
  const wrong = Object.entries(expected).filter(([name, shape]) => !sameShape({ shape }, found[name]!));
  refuseNames(
    directory,
    'disagrees with its config.json in',
    wrong.map(([name, shape]) => `${name} [${found[name]!.shape}] instead of [${shape}]`),
  );
}

const difference = (of: object, without: object): string[] =>
  Object.keys(of).filter(name => !Object.hasOwn(without, name));

function refuseNames(directory: string, verb: string, names: readonly string[], more = ''): void {
  if (names.length === 0) return;
  throw new ModelError(`${directory} ${verb} ${listNames(names)}${more && ` ${more}`}`);
}

const COMPARED_BYTES = 1 << 20;

/** Compares in pieces: an embedding may be larger than the free memory. */
async function sameBytes(a: StoredTensor, b: StoredTensor): Promise<boolean> {
  if (a.dtype !== b.dtype || a.sizeBytes !== b.sizeBytes) return false;
  await using fileA = await open(a.file);
  await using fileB = await open(b.file);
  for (let at = 0; at < a.sizeBytes; at += COMPARED_BYTES) {
    const length = Math.min(COMPARED_BYTES, a.sizeBytes - at);
    const [pieceA, pieceB] = await Promise.all([
      fileA.read({ buffer: Buffer.alloc(length), position: a.offset + at }),
      fileB.read({ buffer: Buffer.alloc(length), position: b.offset + at }),
    ]);
    if (!pieceA.buffer.equals(pieceB.buffer)) return false;
  }
  return true;
}
