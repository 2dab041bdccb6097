// Reads and writes adapters in PEFT's format, `adapter_config.json` and `adapter_model.safetensors`: LoRA on linear
// layers, nothing else of PEFT. https://github.com/huggingface/peft/blob/main/src/peft/tuners/lora/config.py
import { access, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { StoredTensor } from '../engine/program.ts';
import type { LinearLayer, ModelKind } from '../models/architecture.ts';
import { readJsonFile } from '../models/json-file.ts';
import { loraShapes, moduleNames, selectLayers } from '../models/lora.ts';
import { listNames, ModelError } from '../models/model-error.ts';
import { readHeader, readTensor, type TensorToWrite, writeSafetensors } from './safetensors.ts';

/** a [rank, in] and b [out, rank], row-major. */
export interface LoraArrays {
  readonly a: Float32Array;
  readonly b: Float32Array;
}

export interface Adapter {
  readonly rank: number;
  readonly alpha: number;
  /** Scale of b a x: alpha / rank (alpha / sqrt(rank) for rank-stabilized adapters). */
  readonly scale: number;
  readonly dropout: number;
  /** The base model that the adapter names: a Hugging Face id or a path. */
  readonly baseModel: string | null;
  /** By layer name, in the model's order. */
  readonly layers: Readonly<Record<string, LoraArrays>>;
  /** Tensors of a task head (`modules_to_save`), by their names in the model; present if asked for. */
  readonly head?: Readonly<Record<string, StoredTensor>>;
}

export interface AdapterToWrite {
  readonly rank: number;
  readonly alpha: number;
  readonly dropout: number;
  readonly baseModel: string;
  /** Kind of the model; default: causal. */
  readonly kind?: ModelKind;
  /** All linear layers of the model; those with an entry in `layers` are adapted. */
  readonly linearLayers: readonly LinearLayer[];
  readonly layers: Readonly<Record<string, LoraArrays>>;
  /** The task head, and the modules that PEFT finds it in. */
  readonly head?: AdapterHead | null;
}

interface AdapterHead {
  readonly modules: readonly string[];
  readonly tensors: Readonly<Record<string, { shape: readonly number[]; data: Float32Array }>>;
}

const CONFIG_FILE = 'adapter_config.json';
const WEIGHTS_FILE = 'adapter_model.safetensors';

const PREFIX = 'base_model.model.';

const tensorNames = (layer: LinearLayer): { a: string; b: string } => ({
  a: `${PREFIX}${layer.name}.lora_A.weight`,
  b: `${PREFIX}${layer.name}.lora_B.weight`,
});

/** Writes the folder; PEFT, vLLM and llama.cpp can load it. Always float32: adapters are small. */
export async function writeAdapter(directory: string, adapter: AdapterToWrite): Promise<void> {
  await mkdir(directory, { recursive: true });
  const adapted = adapter.linearLayers.filter(({ name }) => adapter.layers[name]);
  const tensors = adapted.flatMap(layer => {
    const names = tensorNames(layer);
    const shapes = loraShapes(layer, adapter.rank);
    const { a, b } = adapter.layers[layer.name]!;
    return [
      [names.a, { dtype: 'F32', shape: shapes.a, data: a }],
      [names.b, { dtype: 'F32', shape: shapes.b, data: b }],
    ] satisfies [string, TensorToWrite][];
  });
  const whole = Object.entries(adapter.head?.tensors ?? {}).map(
    ([name, { shape, data }]): [string, TensorToWrite] => [PREFIX + name, { dtype: 'F32', shape, data }],
  );
  await writeSafetensors(join(directory, WEIGHTS_FILE), Object.fromEntries([...tensors, ...whole]));
  await writeFile(join(directory, CONFIG_FILE), `${JSON.stringify(toConfig(adapter, adapted), null, 2)}\n`);
}

/**
 * Module names if they select exactly the adapted layers, full paths otherwise: task heads may have layers of the same
 * name (`dense`), including heads of an encoder's files that are not computed here.
 */
function targetModules(
  { kind, linearLayers, head }: AdapterToWrite,
  adapted: readonly LinearLayer[],
): string[] {
  const names = moduleNames(adapted);
  const inHead = Object.keys(head?.tensors ?? {}).some(name => names.includes(name.split('.').at(-2)!));
  const exact = kind !== 'encoder' && !inHead && selectLayers(linearLayers, names).length === adapted.length;
  return exact ? names : adapted.map(({ name }) => name);
}

/** PEFT's task type for a model without a task head. */
const TASK_TYPES = {
  causal: 'CAUSAL_LM',
  encoder: 'FEATURE_EXTRACTION',
  'encoder-decoder': 'SEQ_2_SEQ_LM',
} as const satisfies Record<ModelKind, string>;

const toConfig = (adapter: AdapterToWrite, adapted: readonly LinearLayer[]) => ({
  base_model_name_or_path: adapter.baseModel,
  bias: 'none',
  fan_in_fan_out: adapted.some(layer => layer.transposed),
  inference_mode: true,
  init_lora_weights: true,
  lora_alpha: adapter.alpha,
  lora_dropout: adapter.dropout,
  modules_to_save: adapter.head?.modules ?? null,
  peft_type: 'LORA',
  r: adapter.rank,
  rank_pattern: {},
  alpha_pattern: {},
  revision: null,
  target_modules: targetModules(adapter, adapted),
  task_type: adapter.head ? 'SEQ_CLS' : TASK_TYPES[adapter.kind ?? 'causal'],
  use_dora: false,
  use_rslora: false,
});

/** Unsupported fields that change what an adapter computes, each with a test for values that change nothing. */
const UNSERVED: Record<string, (value: unknown) => boolean> = {
  bias: value => value === 'none',
  rank_pattern: isEmpty,
  alpha_pattern: isEmpty,
  modules_to_save: isEmpty,
  layer_replication: isEmpty,
  target_parameters: isEmpty,
  trainable_token_indices: isEmpty,
  alora_invocation_tokens: isEmpty,
  use_dora: value => value === false,
  use_qalora: value => value === false,
  use_bdlora: value => value === false,
  lora_bias: value => value === false,
  arrow_config: isEmpty,
  kasa_config: isEmpty,
  monteclora_config: isEmpty,
  velora_config: isEmpty,
};

function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}

export interface ReadOptions {
  /** Whether a task head is accepted; otherwise it is refused, as its purpose is unknown. */
  readonly head?: boolean;
}

/**
 * Reads a folder for a model with these linear layers. Throws ModelError when it is no LoRA adapter, uses something
 * unsupported, or does not fit the model.
 */
export async function readAdapter(
  directory: string,
  linearLayers: readonly LinearLayer[],
  { head = false }: ReadOptions = {},
): Promise<Adapter> {
  const config = await readConfig(directory, head);
  const rank = readNumber(config, 'r', value => Number.isInteger(value) && value > 0);
  const alpha = readNumber(config, 'lora_alpha', value => value > 0);
  const file = join(directory, WEIGHTS_FILE);
  await requireFile(file);
  const { whole, lora } = separate((await readHeader(file)).tensors, head ? config.modules_to_save : null);
  return {
    rank,
    alpha,
    scale: config.use_rslora === true ? alpha / Math.sqrt(rank) : alpha / rank,
    dropout: typeof config.lora_dropout === 'number' ? config.lora_dropout : 0,
    baseModel: typeof config.base_model_name_or_path === 'string' ? config.base_model_name_or_path : null,
    layers: await readLayers(lora, fitLayers(file, lora, linearLayers, rank)),
    ...(head && { head: whole }),
  };
}

/** Separates the tensors of `modules_to_save`, under the model's names, from those of LoRA. */
function separate(stored: Record<string, StoredTensor>, saved: unknown) {
  const modules = Array.isArray(saved) ? saved.map(String) : [];
  const isWhole = (name: string) =>
    modules.some(module => `.${name}`.includes(`.${module}.`)) && !/\.lora_[AB]\./.test(name);
  const entries = Object.entries(stored);
  return {
    whole: Object.fromEntries(
      entries.filter(([name]) => isWhole(name)).map(([name, tensor]) => [name.slice(PREFIX.length), tensor]),
    ),
    lora: Object.fromEntries(entries.filter(([name]) => !isWhole(name))),
  };
}

async function readConfig(directory: string, head: boolean): Promise<Readonly<Record<string, unknown>>> {
  const file = join(directory, CONFIG_FILE);
  const config = await readJsonFile(file);
  if (!config) throw new ModelError(`${file} is missing: not a PEFT adapter`);
  if (config.peft_type !== 'LORA') {
    throw new ModelError(`${file}: peft_type ${JSON.stringify(config.peft_type)}; only "LORA" is supported`);
  }
  for (const [field, changesNothing] of Object.entries(UNSERVED)) {
    const value = config[field] ?? null;
    const isRead = head && field === 'modules_to_save';
    if (value !== null && !isRead && !changesNothing(value)) {
      throw new ModelError(`${file}: ${field} ${JSON.stringify(value)} is not supported`);
    }
  }
  return config;
}

async function requireFile(file: string): Promise<void> {
  await access(file).catch(cause => {
    throw new ModelError(`${file} is missing; save the adapter in safetensors form`, { cause });
  });
}

function readNumber(
  config: Record<string, unknown>,
  field: string,
  fits: (value: number) => boolean,
): number {
  const value = config[field];
  if (typeof value === 'number' && Number.isFinite(value) && fits(value)) return value;
  throw new ModelError(`${CONFIG_FILE}: ${field} must be a positive number, not ${JSON.stringify(value)}`);
}

/**
 * The layers that the file adapts. The tensors decide, not `target_modules`, which may also be a regular expression.
 */
function fitLayers(
  file: string,
  stored: Record<string, StoredTensor>,
  linearLayers: readonly LinearLayer[],
  rank: number,
): LinearLayer[] {
  const known = new Set(linearLayers.flatMap(layer => Object.values(tensorNames(layer))));
  const surplus = Object.keys(stored).filter(name => !known.has(name));
  if (surplus.length > 0) {
    const modules = moduleNames(linearLayers).join(', ');
    throw new ModelError(
      `${file} has ${listNames(surplus, 4)}, which the model has no place for; adapters may target ${modules}`,
    );
  }
  const adapted = linearLayers.filter(layer => Object.values(tensorNames(layer)).some(name => stored[name]));
  if (adapted.length === 0) throw new ModelError(`${file} adapts no layer`);
  for (const layer of adapted) checkShapes(file, stored, layer, rank);
  return adapted;
}

function checkShapes(
  file: string,
  stored: Record<string, StoredTensor>,
  layer: LinearLayer,
  rank: number,
): void {
  const shapes = loraShapes(layer, rank);
  for (const [half, name] of Object.entries(tensorNames(layer)) as ['a' | 'b', string][]) {
    const found = stored[name];
    if (!found) throw new ModelError(`${file} lacks ${name}`);
    if (String(found.shape) !== String(shapes[half])) {
      throw new ModelError(`${file}: ${name} is [${found.shape}] instead of [${shapes[half]}]`);
    }
  }
}

async function readLayers(
  stored: Record<string, StoredTensor>,
  adapted: readonly LinearLayer[],
): Promise<Record<string, LoraArrays>> {
  const layers: Record<string, LoraArrays> = {};
  for (const layer of adapted) {
    const names = tensorNames(layer);
    layers[layer.name] = { a: await readTensor(stored[names.a]!), b: await readTensor(stored[names.b]!) };
  }
  return layers;
}
