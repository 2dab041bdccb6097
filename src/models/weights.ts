// Holds the tensors of a Hugging Face folder against what its architecture has. It reads where they lie, not what they are.
import { access, open } from 'node:fs/promises';
import { join } from 'node:path';
import type { StoredTensor } from '../engine/program.ts';
import { readModelHeaders } from '../formats/safetensors.ts';
import { listNames, ModelError } from './model-error.ts';

export interface ExpectedWeights {
  /** Its name, for messages. */
  readonly architecture: string;
  readonly expected: Readonly<Record<string, readonly number[]>>;
  /** Names under which a tied model's files may hold a tensor once more, or instead: theirs -> its own. Expected ones are no copies. */
  readonly copies: Readonly<Record<string, string>>;
  /** A name as files spell it -> as `expected` does; null for harmless surplus. */
  canonicalName(name: string): string | null;
  /** By canonical names: surplus that is known and not used. */
  isHead(name: string): boolean;
}

export interface OpenedWeights {
  /** Exactly the expected tensors, in the order expected. */
  readonly weights: Record<string, StoredTensor>;
  /** The heads' tensors that the files have besides. */
  readonly leftOut: Record<string, StoredTensor>;
}

/** Throws ModelError saying what is missing, surplus or of another shape. */
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

/** Where the tensors lie. A broken or absent file is the folder's fault, a disk that cannot be read is not. */
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

/** Under the architecture's own names, harmless surplus left out. */
function canonicalNames(
  canonicalName: (name: string) => string | null,
  read: Readonly<Record<string, StoredTensor>>,
): Record<string, StoredTensor> {
  const named = Object.entries(read).map(([name, stored]) => [canonicalName(name), stored] as const);
  return Object.fromEntries(named.filter(([name]) => name !== null));
}

/**
 * Leaves in `found` what a tied model's files hold as `copy` and as `own`, under either name or both, as `own`. Two different
 * tensors are refused: transformers 4 takes the embedding for both, transformers 5 does not tie them.
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
  const wrong = Object.entries(expected).filter(([name, shape]) => !sameShape(shape, found[name]!.shape));
  refuseNames(
    directory,
    'disagrees with its config.json in',
    wrong.map(([name, shape]) => `${name} [${found[name]!.shape}] instead of [${shape}]`),
  );
}

const difference = (of: object, without: object): string[] =>
  Object.keys(of).filter(name => !Object.hasOwn(without, name));

const sameShape = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((length, i) => length === b[i]);

function refuseNames(directory: string, verb: string, names: readonly string[], more = ''): void {
  if (names.length === 0) return;
  throw new ModelError(`${directory} ${verb} ${listNames(names)}${more && ` ${more}`}`);
}

const COMPARED_BYTES = 1 << 20;

/** Compares piece by piece: an embedding may be larger than what memory has to spare. */
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
