// Pooling: how the hidden states of a text become one vector, and whether it is normalized. Read from the files that
// sentence-transformers writes; it computes no hidden states.
import { join } from 'node:path';
import { type ConfigJson, readChoice, readCount, readFlag } from './config-fields.ts';
import { readJsonFile, readJsonList } from './json-file.ts';
import { ModelError } from './model-error.ts';
import type { Model } from './registry.ts';

const POOLING_MODES = ['mean', 'cls', 'last'] as const;
export type PoolingMode = (typeof POOLING_MODES)[number];

export interface Pooling {
  readonly mode: PoolingMode;
  /** Vectors are scaled to length 1. */
  readonly normalize: boolean;
  /** Most tokens of a text, special tokens included. */
  readonly maxTokens: number;
}

/** OpenAI's limit. Attention is quadratic: twice the length takes four times the memory. */
const LONGEST = 8192;

/** The files of a model folder that define pooling. */
export const POOLING_FILES =
  /^(modules|sentence_bert_config|config_sentence_transformers)\.json$|^[\w.-]+_Pooling\/config\.json$/;

/**
 * Reads the folder's settings. Defaults: normalized vectors; the mean of an encoder's states, the last state of a
 * causal model. Throws ModelError for an encoder-decoder, and for unsupported settings.
 */
export async function readPooling(model: Model): Promise<Pooling> {
  if (model.kind === 'encoder-decoder') throw new ModelError(`${model.architecture} makes no embeddings`);
  const modules = await readModules(join(model.directory, 'modules.json'));
  const poolingModule = modules?.find(({ type }) => type === 'Pooling');
  const mode = poolingModule
    ? await readMode(join(model.directory, poolingModule.path, 'config.json'))
    : null;
  return {
    mode: mode ?? (model.kind === 'causal' ? 'last' : 'mean'),
    normalize: modules?.some(({ type }) => type === 'Normalize') ?? true,
    maxTokens: Math.min(LONGEST, model.shape.maxPositions, await readMaxLength(model.directory)),
  };
}

/** Where sentence-transformers stores the maximum length: up to version 5, and since. */
const LENGTHS = [
  ['sentence_bert_config.json', 'max_seq_length'],
  ['tokenizer_config.json', 'model_max_length'],
] as const;

/** Infinity if no file has one. */
async function readMaxLength(directory: string): Promise<number> {
  for (const [file, field] of LENGTHS) {
    const config = await readJsonFile(join(directory, file));
    if (config?.[field] !== undefined && config[field] !== null) return readCount(config, field);
  }
  return Number.POSITIVE_INFINITY;
}

interface Module {
  /** The last part of its class name: `Pooling` of `sentence_transformers.models.Pooling`. */
  readonly type: string;
  readonly path: string;
}

const SERVED_MODULES = ['Transformer', 'Pooling', 'Normalize'];

/** Null without the file. */
async function readModules(file: string): Promise<Module[] | null> {
  const listed = await readJsonList(file);
  if (!listed) return null;
  const modules = listed.map(({ type, path }) => ({
    type: String(type).split('.').at(-1)!,
    path: String(path ?? ''),
  }));
  const unknown = modules.find(({ type }) => !SERVED_MODULES.includes(type));
  if (!unknown) return modules;
  throw new ModelError(
    `modules.json: ${unknown.type} is not supported; known are ${SERVED_MODULES.join(', ')}`,
  );
}

const FLAGS: Readonly<Record<string, PoolingMode | null>> = {
  pooling_mode_mean_tokens: 'mean',
  pooling_mode_cls_token: 'cls',
  pooling_mode_lasttoken: 'last',
  pooling_mode_max_tokens: null,
  pooling_mode_mean_sqrt_len_tokens: null,
  pooling_mode_weightedmean_tokens: null,
};

/** One flag per mode (sentence-transformers up to version 4), or the mode's name. */
async function readMode(file: string): Promise<PoolingMode> {
  const config = await readJsonFile(file);
  if (!config) throw new ModelError(`${file} is not there, but modules.json names it`);
  if (config.pooling_mode !== undefined) return readNamedMode(config);
  const on = Object.keys(FLAGS).filter(flag => readFlag(config, flag, false));
  const mode = on.length === 1 ? FLAGS[on[0]!] : null;
  if (mode) return mode;
  throw new ModelError(
    `${file}: ${on.join(' with ') || 'no pooling mode'} is not supported; ${POOLING_MODES.join(', ')} are`,
  );
}

const NAMES = { mean: 'mean', cls: 'cls', lasttoken: 'last' } as const;

const readNamedMode = (config: ConfigJson): PoolingMode =>
  NAMES[readChoice(config, 'pooling_mode', Object.keys(NAMES) as (keyof typeof NAMES)[], 'mean')];

const PLACES: Record<PoolingMode, (into: Float32Array) => void> = {
  mean: into => into.fill(1 / into.length),
  cls: into => into.fill(1, 0, 1),
  last: into => into.fill(1, -1),
};

/** Writes the weight of each token's state into `into`, which must be zeros: one number per token. */
export const fillPooling = (mode: PoolingMode, into: Float32Array): void => PLACES[mode](into);

/** Scales the vector to length 1; a zero vector stays zero. */
export function normalized(vector: Float32Array): Float32Array {
  const length = Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0));
  return length === 0 ? vector : vector.map(x => x / length);
}
