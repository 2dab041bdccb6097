// A Hugging Face model folder: which files belong to a model, and how one is written. Which numbers its tensors have is the caller's matter.
import { copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { POOLING_FILES } from '../models/pooling.ts';
import type { Model } from '../models/registry.ts';
import { meaningToConfig, type OutputMeaning } from './classifier-config.ts';
import { type TensorToWrite, writeSafetensors } from './safetensors.ts';

/** What a model is besides its weights: every model made from it has them too. The cards are for the sake of their licences. */
const COMPANIONS =
  /^(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|target_vocab|chat_template)\.json$|^merges\.txt$|^(tokenizer|spiece)\.model$|^(source|target)\.spm$|^chat_template\.jinja$|^(LICENSE|NOTICE)[\w.-]*$|^README\.md$/;

const WEIGHTS = /^[\w.-]+\.safetensors$|^model\.safetensors\.index\.json$/;

/** Paths are relative to the folder. */
const isCompanion = (path: string): boolean => COMPANIONS.test(path) || POOLING_FILES.test(path);

/** Weights in other formats and pictures are none. */
export const isModelFile = (path: string): boolean => isCompanion(path) || WEIGHTS.test(path);

export async function copyCompanions(from: string, to: string): Promise<void> {
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
  /** What it was made from: its companions are copied. */
  readonly base: Pick<Model, 'directory'>;
  readonly tensors: Readonly<Record<string, TensorToWrite>>;
  /** Null for a model of the class that the base has. */
  readonly head: HeadToWrite | null;
}

/** Into a folder that is there. */
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

/** Numbers are written again as they were: transformers takes 0.0 for a share, and not 0. */
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
