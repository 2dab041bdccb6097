// A model of the Llama family as llama.cpp wants it: its names for tensors and settings, and queries and keys with the halves of a head's
// pairs side by side where it turns them so. https://github.com/ggml-org/llama.cpp/blob/master/convert_hf_to_gguf.py
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { GgufFile, GgufTensor, GgufValue } from '../formats/gguf.ts';
import { type ConfigJson, readCount, readPositive } from '../models/config-fields.ts';
import { readJsonFile } from '../models/json-file.ts';
import { ModelError } from '../models/model-error.ts';
import type { Model } from '../models/registry.ts';
import { readRope } from '../models/rope.ts';
import { type TokenizerJson, vocabularyMetadata } from './gguf-vocabulary.ts';
import type { MergedTensor } from './merge.ts';

interface Target {
  /** llama.cpp's name of the architecture. */
  readonly name: string;
  /** It turns neighbours (2 i, 2 i + 1) of a head instead of halves (i, i + d / 2). */
  readonly turnsNeighbours: boolean;
  /** It reads factors for the frequencies. */
  readonly readsFactors: boolean;
}

const LLAMA: Target = { name: 'llama', turnsNeighbours: true, readsFactors: true };
const TARGETS: Readonly<Record<string, Target>> = {
  LlamaForCausalLM: LLAMA,
  MistralForCausalLM: LLAMA,
  Qwen2ForCausalLM: { name: 'qwen2', turnsNeighbours: false, readsFactors: false },
  Qwen3ForCausalLM: { name: 'qwen3', turnsNeighbours: false, readsFactors: false },
};

/** Throws ModelError for a model that has no such form. */
export function ggufTarget({ config }: Pick<Model, 'config'>): Target {
  const asked = Array.isArray(config.architectures) ? config.architectures.map(String) : [];
  const found = asked.map(name => TARGETS[name]).find(target => target !== undefined);
  if (found) return found;
  const known = Object.keys(TARGETS).join(', ');
  throw new ModelError(`the gguf export takes ${known}, not ${asked.join(', ') || 'a model without a name'}`);
}

const TOP: Readonly<Record<string, string>> = {
  'model.embed_tokens': 'token_embd',
  'model.norm': 'output_norm',
  lm_head: 'output',
};
const IN_LAYER: Readonly<Record<string, string>> = {
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'self_attn.q_norm': 'attn_q_norm',
  'self_attn.k_norm': 'attn_k_norm',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
  input_layernorm: 'attn_norm',
  post_attention_layernorm: 'ffn_norm',
};

/** `model.layers.3.mlp.up_proj.weight` -> `blk.3.ffn_up.weight` */
export function ggufName(name: string): string {
  const [, path, kind] = /^(.+)\.(weight|bias)$/.exec(name) ?? [];
  const [, layer, inner] = /^model\.layers\.(\d+)\.(.+)$/.exec(path ?? '') ?? [];
  const renamed =
    layer === undefined ? TOP[path ?? ''] : inner && IN_LAYER[inner] && `blk.${layer}.${IN_LAYER[inner]}`;
  if (!renamed) throw new ModelError(`the gguf export has no name for ${name}`);
  return `${renamed}.${kind}`;
}

/** Rows of a head from (half, pair) to (pair, half); back with `inverse`. Rows are what a projection gives. */
export function reorderHeads(
  values: Float32Array,
  heads: number,
  rows: number,
  inverse = false,
): Float32Array {
  const width = values.length / rows;
  const pairs = rows / heads / 2;
  const moved = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    const head = Math.floor(row / (2 * pairs));
    const [half, pair] = [Math.floor((row % (2 * pairs)) / pairs), row % pairs];
    const other = head * 2 * pairs + pair * 2 + half;
    const [from, to] = inverse ? [other, row] : [row, other];
    moved.set(values.subarray(from * width, (from + 1) * width), to * width);
  }
  return moved;
}

/** How many heads a tensor's rows are those of, where its rows are reordered; null elsewhere. */
export function reorderedHeads(name: string, { shape }: Pick<Model, 'shape'>, target: Target): number | null {
  if (!target.turnsNeighbours) return null;
  if (/\.self_attn\.q_proj\./.test(name)) return shape.heads;
  return /\.self_attn\.k_proj\./.test(name) ? shape.kvHeads : null;
}

function toGguf(name: string, tensor: MergedTensor, model: Model, target: Target): GgufTensor {
  const heads = reorderedHeads(name, model, target);
  return {
    shape: tensor.shape,
    // llama.cpp takes norms and biases in float32 only.
    dtype: tensor.shape.length === 1 ? 'F32' : tensor.dtype,
    async data() {
      const values = await tensor.data();
      return heads === null ? values : reorderHeads(values, heads, tensor.shape[0]!);
    },
  };
}

const FILE_TYPES = { F32: 0, F16: 1, BF16: 32 } as const;

function settings(model: Model, target: Target): Record<string, GgufValue> {
  const { config, shape } = model;
  const of = (key: string) => `${target.name}.${key}`;
  const window = config.sliding_window;
  return {
    [of('block_count')]: { u32: shape.layers },
    [of('context_length')]: { u32: shape.maxPositions },
    [of('embedding_length')]: { u32: shape.hiddenSize },
    [of('feed_forward_length')]: { u32: readCount(config, 'intermediate_size') },
    [of('attention.head_count')]: { u32: shape.heads },
    [of('attention.head_count_kv')]: { u32: shape.kvHeads },
    [of('attention.key_length')]: { u32: shape.headDim },
    [of('attention.value_length')]: { u32: shape.headDim },
    [of('attention.layer_norm_rms_epsilon')]: { f32: readPositive(config, 'rms_norm_eps', 1e-6) },
    [of('rope.dimension_count')]: { u32: shape.headDim },
    [of('rope.freq_base')]: { f32: thetaOf(config) },
    [of('vocab_size')]: { u32: shape.vocabSize },
    ...(target === LLAMA &&
      typeof window === 'number' && { [of('attention.sliding_window')]: { u32: window } }),
  };
}

const THETA = 10_000;

function thetaOf(config: ConfigJson): number {
  const nested = (config.rope_parameters ?? config.rope_scaling ?? {}) as ConfigJson;
  const theta = nested.rope_theta ?? config.rope_theta ?? THETA;
  return Number(theta);
}

/** What scaled frequencies are divided by: plain / scaled. Null where nothing is scaled. */
function frequencyFactors({ config, shape }: Model): Float32Array | null {
  const theta = thetaOf(config);
  const { frequencies } = readRope(config, shape.headDim);
  const factors = frequencies.map((frequency, pair) => theta ** ((-2 * pair) / shape.headDim) / frequency);
  return factors.some(factor => Math.abs(factor - 1) > 1e-4) ? factors : null;
}

function ropeTensor(model: Model, target: Target): Record<string, GgufTensor> {
  const factors = frequencyFactors(model);
  if (factors === null) return {};
  if (!target.readsFactors)
    throw new ModelError(`the gguf export does not take scaled positions (rope_scaling) for ${target.name}`);
  return { 'rope_freqs.weight': { shape: [factors.length], dtype: 'F32', data: async () => factors } };
}

/** Ids that generation begins and ends with, and the template of chats, as far as the folder has them. */
async function ends(directory: string, tokenizer: TokenizerJson): Promise<Record<string, GgufValue>> {
  const config = (await readJsonFile(join(directory, 'tokenizer_config.json'))) ?? {};
  const ids = new Map(tokenizer.added_tokens.map(({ content, id }) => [content, id]));
  const idOf = (key: string): number | undefined => {
    const given = config[key] as string | { content: string } | null | undefined;
    const text = typeof given === 'object' ? given?.content : given;
    return text === undefined ? undefined : (ids.get(text) ?? tokenizer.model.vocab[text]);
  };
  const pairs = Object.entries({
    bos: 'bos_token',
    eos: 'eos_token',
    padding: 'pad_token',
    unknown: 'unk_token',
  });
  const named = pairs.flatMap(([name, key]) => {
    const id = idOf(key);
    return id === undefined ? [] : [[`tokenizer.ggml.${name}_token_id`, { u32: id }] as const];
  });
  const template = await chatTemplate(directory, config);
  return {
    ...Object.fromEntries(named),
    'tokenizer.ggml.add_bos_token': { bool: config.add_bos_token === true },
    ...(template !== null && { 'tokenizer.chat_template': { string: template } }),
  };
}

async function chatTemplate(directory: string, config: ConfigJson): Promise<string | null> {
  const file = await readFile(join(directory, 'chat_template.jinja'), 'utf8').catch(() => null);
  return file ?? (typeof config.chat_template === 'string' ? config.chat_template : null);
}

/** Throws ModelError for what llama.cpp would not compute alike. `name` is for people. */
export async function toGgufFile(
  model: Model,
  merged: Readonly<Record<string, MergedTensor>>,
  name: string,
): Promise<GgufFile> {
  const target = ggufTarget(model);
  const json = await readJsonFile(join(model.directory, 'tokenizer.json'));
  if (!json) throw new ModelError('the gguf export needs a tokenizer.json');
  const tokenizer = json as unknown as TokenizerJson;
  const tensors = Object.entries(merged).map(([own, tensor]) => [
    ggufName(own),
    toGguf(own, tensor, model, target),
  ]);
  const matrices = Object.values(merged).find(({ shape }) => shape.length > 1)!;
  return {
    metadata: {
      'general.architecture': { string: target.name },
      'general.name': { string: name },
      'general.file_type': { u32: FILE_TYPES[matrices.dtype] },
      ...settings(model, target),
      ...vocabularyMetadata(tokenizer, model.shape.vocabSize),
      ...(await ends(model.directory, tokenizer)),
    },
    tensors: { ...Object.fromEntries(tensors), ...ropeTensor(model, target) },
  };
}
