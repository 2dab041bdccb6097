// Writes Hugging Face model folders, and says which files belong to one.
import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { POOLING_FILES } from '../models/pooling.ts';
import type { Model } from '../models/registry.ts';
import { meaningToConfig, type OutputMeaning } from './classifier-config.ts';
import { type TensorToWrite, writeSafetensors } from './safetensors.ts';

/**
 * Files of a model other than its weights, which every model made from it gets too. Model cards are included for their
 * licences.
 */
const COMPANIONS =
  /^(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|target_vocab|chat_template)\.json$|^merges\.txt$|^(tokenizer|spiece)\.model$|^(source|target)\.spm$|^chat_template\.jinja$|^(LICENSE|NOTICE)[\w.-]*$|^README\.md$/;

const WEIGHTS = /^[\w.-]+\.safetensors$|^model\.safetensors\.index\.json$/;

/** Paths are relative to the folder. */
const isCompanion = (path: string): boolean => COMPANIONS.test(path) || POOLING_FILES.test(path);

/** Weights in other formats and images are not model files. */
export const isModelFile = (path: string): boolean => isCompanion(path) || WEIGHTS.test(path);

async function copyCompanions(from: string, to: string): Promise<void> {
  const entries = await readdir(from, { recursive: true, withFileTypes: true });
  const files = entries.filter(entry => entry.isFile());
  const paths = files.map(({ parentPath, name }) => relative(from, join(parentPath, name)));
  for (const path of paths.filter(isCompanion)) {
    await mkdir(dirname(join(to, path)), { recursive: true });
    await copyFile(join(from, path), join(to, path));
  }
}

/** A head for classes or numbers. */
export interface HeadToWrite {
  /** The class of `transformers` that has it. */
  readonly served: string;
  readonly meaning: OutputMeaning;
  readonly tensors: Readonly<Record<string, TensorToWrite>>;
}

export interface ModelToWrite {
  /** The base model, whose companion files are copied. */
  readonly base: Pick<Model, 'directory'>;
  readonly tensors: Readonly<Record<string, TensorToWrite>>;
  /** Null keeps the base model's class. */
  readonly head: HeadToWrite | null;
}

/** Writes into an existing folder. */
export async function writeModelFolder(
  directory: string,
  { base, tensors, head }: ModelToWrite,
): Promise<void> {
  await copyCompanions(base.directory, directory);
  if (head) await changeConfig(directory, { architectures: [head.served], ...meaningToConfig(head.meaning) });
  await writeSafetensors(join(directory, 'model.safetensors'), { ...tensors, ...head?.tensors });
}

async function changeConfig(directory: string, change: Readonly<Record<string, unknown>>): Promise<void> {
  const file = join(directory, 'config.json');
  const config = parseAsSpelt(await readFile(file, 'utf8'));
  await writeFile(file, `${JSON.stringify({ ...config, ...change }, null, 2)}\n`);
}

/** Parses JSON so that numbers are written back as they were spelled: transformers rejects 0 for 0.0 in some fields. */
function parseAsSpelt(text: string): Record<string, unknown> {
  const { parse, rawJSON } = JSON as unknown as SourceTextJson;
  return parse(text, (_, value, { source }) => (typeof value === 'number' ? rawJSON(source) : value));
}

/** ECMAScript's "JSON.parse source text access", for which TypeScript has no types yet. */
interface SourceTextJson {
  parse(
    text: string,
    revive: (key: string, value: unknown, context: { source: string }) => unknown,
  ): Record<string, unknown>;
  rawJSON(text: string): unknown;
}
