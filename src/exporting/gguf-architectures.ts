// Architectures in llama.cpp's terms: its names of tensors and settings, changes to the tensors' numbers, and what it
// would compute differently, which is refused. After llama.cpp's conversion/*.py and src/models/*.cpp,
// https://github.com/ggml-org/llama.cpp
import type { GgufTensor, GgufValue } from '../formats/gguf.ts';
import { type ConfigJson, readCount, readFlag, readObject, readPositive } from '../models/config-fields.ts';
import { readLayerKinds } from '../models/layer-kinds.ts';
import { ModelError } from '../models/model-error.ts';
import type { DescribedModel } from '../models/registry.ts';
import { readRope } from '../models/rope.ts';
import { type Change, pairRows, raisedByOne, separateGroups, transposed } from './gguf-changes.ts';

/** Metadata keys without the prefix of the architecture's name. */
type Settings = Readonly<Record<string, GgufValue>>;

interface Names {
  /** The path before a layer's index. */
  readonly layers: string;
  /** llama.cpp's names, by module path. */
  readonly top: Readonly<Record<string, string>>;
  readonly inLayer: Readonly<Record<string, string>>;
}

export interface Target extends Names {
  /** llama.cpp's name of the architecture. */
  readonly name: string;
  settings(model: DescribedModel): Settings;
  /** Change to a tensor, by its name within its layer (or its full name outside of layers); null: none. */
  change?(name: string, model: DescribedModel): Change | null;
  /** Settings that are stored as tensors. */
  lists?(model: DescribedModel): Readonly<Record<string, GgufTensor>>;
  /** Throws ModelError for what llama.cpp would compute differently. */
  check?(model: DescribedModel): void;
}

const refuse = (what: string): never => {
  throw new ModelError(`llama.cpp does not compute ${what}`);
};

function requireActivation(config: ConfigJson, field: string, family: RegExp): void {
  const given = config[field];
  if (given !== undefined && given !== null && !family.test(String(given)))
    refuse(`${field} ${JSON.stringify(given)}`);
}
const SILU = /^(silu|swish)$/;
const GELU = /^gelu/;

const requireTied = ({ config, outputWeight }: DescribedModel): void => {
  if (/^(lm_head|embed_out)\./.test(outputWeight ?? ''))
    refuse(`an output projection of its own for ${String(config.model_type)}`);
};

// ---- settings

const u32 = (value: number): GgufValue => ({ u32: value });
const f32 = (value: number): GgufValue => ({ f32: value });

const sizes = ({ shape }: DescribedModel, innerSize: number): Settings => ({
  block_count: u32(shape.layers),
  context_length: u32(shape.maxPositions),
  embedding_length: u32(shape.hiddenSize),
  feed_forward_length: u32(innerSize),
  'attention.head_count': u32(shape.heads),
  'attention.head_count_kv': u32(shape.kvHeads),
  vocab_size: u32(shape.vocabSize),
});

const headLengths = ({ shape }: DescribedModel): Settings => ({
  'attention.key_length': u32(shape.headDim),
  'attention.value_length': u32(shape.headDim),
});

const rmsEpsilon = (config: ConfigJson, fallback = 1e-6): Settings => ({
  'attention.layer_norm_rms_epsilon': f32(readPositive(config, 'rms_norm_eps', fallback)),
});

const normEpsilon = (config: ConfigJson, field: string): Settings => ({
  'attention.layer_norm_epsilon': f32(readPositive(config, field, 1e-5)),
});

const THETA = 10_000;

/** A config's rotary fields from either spelling; if they are given per layer kind, those of `full_attention`. */
function ropeFields(config: ConfigJson): ConfigJson {
  const given = readObject(config, 'rope_scaling') ?? readObject(config, 'rope_parameters') ?? {};
  const own = readObject(given, 'full_attention') ?? given;
  return { ...own, rope_type: own.rope_type ?? own.type ?? 'default' };
}

interface RopeRules {
  /** Rotated elements of a head. */
  readonly turned: number;
  readonly theta?: number;
  /** Supported types of scaling besides the default: `linear` is a setting, others are lists. */
  readonly known?: readonly string[];
}

function ropeSettings(
  { config }: DescribedModel,
  { turned, theta = THETA, known = ['linear'] }: RopeRules,
): Settings {
  const rope = ropeFields(config);
  if (!['default', ...known].includes(String(rope.rope_type)))
    refuse(`rotary positions of type ${JSON.stringify(rope.rope_type)} for ${String(config.model_type)}`);
  return {
    'rope.dimension_count': u32(turned),
    'rope.freq_base': f32(Number(rope.rope_theta ?? config.rope_theta ?? theta)),
    ...(rope.rope_type === 'linear' && {
      'rope.scaling.type': { string: 'linear' },
      'rope.scaling.factor': f32(readPositive(rope, 'factor')),
    }),
  };
}

const list = (values: readonly number[]): GgufTensor => ({
  shape: [values.length],
  dtype: 'F32',
  data: async () => Float32Array.from(values),
});

/** Llama 3.1: the divisors of the unscaled frequencies. */
function llama3Factors({ config, shape }: DescribedModel): Readonly<Record<string, GgufTensor>> {
  const rope = ropeFields(config);
  if (rope.rope_type !== 'llama3') return {};
  const theta = Number(rope.rope_theta ?? config.rope_theta ?? THETA);
  const { frequencies } = readRope(config, shape.headDim);
  const factors = frequencies.map((frequency, pair) => theta ** ((-2 * pair) / shape.headDim) / frequency);
  return { 'rope_freqs.weight': list([...factors]) };
}

// ---- the Llama family

const LLAMA_NAMES = {
  layers: 'model.layers.',
  top: {
    'model.embed_tokens': 'token_embd',
    'model.norm': 'output_norm',
    lm_head: 'output',
  },
  inLayer: {
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
  },
} satisfies Names;

interface Defaults extends Partial<RopeRules> {
  readonly epsilon?: number;
}

const llamaSettings = (model: DescribedModel, { epsilon = 1e-6, ...rope }: Defaults = {}): Settings => ({
  ...sizes(model, readCount(model.config, 'intermediate_size')),
  ...headLengths(model),
  ...rmsEpsilon(model.config, epsilon),
  ...ropeSettings(model, { turned: model.shape.headDim, ...rope }),
});

const SCALED = ['linear', 'llama3'];

const pairQueriesAndKeys = (name: string, { shape }: DescribedModel): Change | null => {
  if (/^self_attn\.q_proj\./.test(name)) return pairRows(shape.heads);
  return /^self_attn\.k_proj\./.test(name) ? pairRows(shape.kvHeads) : null;
};

const requireSilu = ({ config }: DescribedModel): void => requireActivation(config, 'hidden_act', SILU);

const llama: Target = {
  name: 'llama',
  ...LLAMA_NAMES,
  settings: model => llamaSettings(model, { known: SCALED }),
  change: pairQueriesAndKeys,
  lists: llama3Factors,
};

const qwen = (name: string): Target => ({
  name,
  ...LLAMA_NAMES,
  settings: model => llamaSettings(model),
});

const mixtral: Target = {
  ...llama,
  inLayer: {
    ...LLAMA_NAMES.inLayer,
    'block_sparse_moe.gate': 'ffn_gate_inp',
    'block_sparse_moe.experts.*.w1': 'ffn_gate_exps',
    'block_sparse_moe.experts.*.w2': 'ffn_down_exps',
    'block_sparse_moe.experts.*.w3': 'ffn_up_exps',
  },
  settings: model => ({
    ...llamaSettings(model, { theta: 1_000_000, epsilon: 1e-5, known: SCALED }),
    expert_count: u32(readCount(model.config, 'num_local_experts', 8)),
    expert_used_count: u32(readCount(model.config, 'num_experts_per_tok', 2)),
  }),
  check: requireSilu,
};

const commandR: Target = {
  name: 'command-r',
  ...LLAMA_NAMES,
  settings: model => ({
    ...sizes(model, readCount(model.config, 'intermediate_size')),
    ...headLengths(model),
    ...normEpsilon(model.config, 'layer_norm_eps'),
    ...ropeSettings(model, { turned: model.shape.headDim, theta: 500_000, known: [] }),
    'rope.scaling.type': { string: 'none' },
    logit_scale: f32(readPositive(model.config, 'logit_scale', 0.0625)),
  }),
  check(model) {
    const { config, shape } = model;
    requireSilu(model);
    requireTied(model);
    if (readFlag(config, 'attention_bias', false)) refuse('an attention_bias for cohere');
    // llama.cpp expects these norms in models with at least 64 layers, and only there.
    if (readFlag(config, 'use_qk_norm', false) !== shape.layers >= 64)
      refuse(`use_qk_norm ${!(shape.layers >= 64)} for cohere with ${shape.layers} layers`);
  },
};

const phi3: Target = {
  name: 'phi3',
  layers: LLAMA_NAMES.layers,
  top: LLAMA_NAMES.top,
  inLayer: {
    'self_attn.qkv_proj': 'attn_qkv',
    'self_attn.o_proj': 'attn_output',
    'mlp.gate_up_proj': 'ffn_up',
    'mlp.down_proj': 'ffn_down',
    input_layernorm: 'attn_norm',
    post_attention_layernorm: 'ffn_norm',
  },
  settings(model) {
    const { config, shape } = model;
    const { frequencies, scale } = readRope(config, shape.headDim, {
      partial: 1,
      types: ['default', 'longrope'],
    });
    const most = readCount(config, 'max_position_embeddings', 4096);
    const rope = ropeFields(config);
    return {
      ...sizes(model, readCount(config, 'intermediate_size')),
      ...rmsEpsilon(config, 1e-5),
      ...ropeSettings(model, { turned: 2 * frequencies.length, known: ['longrope'] }),
      context_length: u32(most),
      'rope.scaling.original_context_length': u32(
        Number(config.original_max_position_embeddings ?? rope.original_max_position_embeddings ?? most),
      ),
      'rope.scaling.attn_factor': f32(scale),
      'attention.sliding_window': u32(Number(config.sliding_window ?? 0)),
    };
  },
  lists({ config }): Readonly<Record<string, GgufTensor>> {
    const { rope_type: type, long_factor: long, short_factor: short } = ropeFields(config);
    if (type !== 'longrope') return {};
    return {
      'rope_factors_long.weight': list(long as number[]),
      'rope_factors_short.weight': list(short as number[]),
    };
  },
  check: requireSilu,
};

// ---- Gemma

const GEMMA_NAMES = {
  ...LLAMA_NAMES,
  inLayer: {
    ...LLAMA_NAMES.inLayer,
    post_attention_layernorm: 'post_attention_norm',
    pre_feedforward_layernorm: 'ffn_norm',
    post_feedforward_layernorm: 'post_ffw_norm',
  },
} satisfies Names;

const raiseNorms = (name: string): Change | null => (/norm\.weight$/.test(name) ? raisedByOne : null);

/**
 * `pattern`: every how many layers one has full attention. `largest`: number of layers of the one model with another
 * score scale.
 */
function checkGemma(model: DescribedModel, pattern: number, largest: number): void {
  const { config, shape } = model;
  requireActivation(config, 'hidden_activation', GELU);
  if (readFlag(config, 'attention_bias', false)) refuse('an attention_bias for gemma');
  const kinds = readLayerKinds(
    config,
    index => (index + 1) % readCount(config, 'sliding_window_pattern', pattern) === 0,
  );
  if (kinds.some((kind, index) => (kind === 'full_attention') !== ((index + 1) % pattern === 0)))
    refuse(`layer_types but for every ${pattern}th layer that sees everything`);
  const scalar = shape.layers === largest ? shape.hiddenSize / shape.heads : shape.headDim;
  const given = readPositive(config, 'query_pre_attn_scalar', 256);
  if (given !== scalar) refuse(`query_pre_attn_scalar ${given} but ${scalar} for this model`);
}

const gemmaSettings = (model: DescribedModel): Settings => ({
  ...sizes(model, readCount(model.config, 'intermediate_size')),
  ...headLengths(model),
  ...rmsEpsilon(model.config),
  'attention.sliding_window': u32(readCount(model.config, 'sliding_window', 4096)),
});

/** The default if the field is absent; null switches it off. */
const softcap = (config: ConfigJson, name: string, fallback: number | null): number | null =>
  config[name] === undefined ? fallback : (config[name] as number | null);

const gemma2: Target = {
  name: 'gemma2',
  ...GEMMA_NAMES,
  settings: model => ({
    ...gemmaSettings(model),
    ...ropeSettings(model, { turned: model.shape.headDim }),
    attn_logit_softcapping: f32(softcap(model.config, 'attn_logit_softcapping', 50)!),
    final_logit_softcapping: f32(softcap(model.config, 'final_logit_softcapping', 30)!),
  }),
  change: raiseNorms,
  check(model) {
    checkGemma(model, 2, 46);
    requireTied(model);
    for (const name of ['attn_logit_softcapping', 'final_logit_softcapping'])
      if (softcap(model.config, name, 1) === null) refuse(`gemma2 without ${name}`);
  },
};

const gemma3: Target = {
  name: 'gemma3',
  ...GEMMA_NAMES,
  settings(model) {
    const { config } = model;
    const local = readObject(readObject(config, 'rope_parameters') ?? {}, 'sliding_attention') ?? {};
    const cap = softcap(config, 'final_logit_softcapping', null);
    return {
      ...gemmaSettings(model),
      ...ropeSettings(model, { turned: model.shape.headDim, theta: 1_000_000 }),
      'rope.freq_base_swa': f32(Number(local.rope_theta ?? config.rope_local_base_freq ?? THETA)),
      ...(cap !== null && { final_logit_softcapping: f32(cap) }),
    };
  },
  change: raiseNorms,
  check: model => checkGemma(model, 6, 62),
};

// ---- the others

const gpt2: Target = {
  name: 'gpt2',
  layers: 'transformer.h.',
  top: {
    'transformer.wte': 'token_embd',
    'transformer.wpe': 'position_embd',
    'transformer.ln_f': 'output_norm',
    lm_head: 'output',
  },
  inLayer: {
    ln_1: 'attn_norm',
    'attn.c_attn': 'attn_qkv',
    'attn.c_proj': 'attn_output',
    ln_2: 'ffn_norm',
    'mlp.c_fc': 'ffn_up',
    'mlp.c_proj': 'ffn_down',
  },
  settings: model => ({
    ...sizes(model, readCount(model.config, 'n_inner', 4 * model.shape.hiddenSize)),
    ...normEpsilon(model.config, 'layer_norm_epsilon'),
  }),
  change: name => (/\.(c_attn|c_proj|c_fc)\.weight$/.test(name) ? transposed : null),
  check({ config }) {
    requireActivation(config, 'activation_function', GELU);
    if (!readFlag(config, 'scale_attn_weights', true)) refuse('scale_attn_weights false');
    if (readFlag(config, 'scale_attn_by_inverse_layer_idx', false))
      refuse('scale_attn_by_inverse_layer_idx true');
  },
};

const gptNeox: Target = {
  name: 'gptneox',
  layers: 'gpt_neox.layers.',
  top: {
    'gpt_neox.embed_in': 'token_embd',
    'gpt_neox.final_layer_norm': 'output_norm',
    embed_out: 'output',
  },
  inLayer: {
    input_layernorm: 'attn_norm',
    'attention.query_key_value': 'attn_qkv',
    'attention.dense': 'attn_output',
    post_attention_layernorm: 'ffn_norm',
    'mlp.dense_h_to_4h': 'ffn_up',
    'mlp.dense_4h_to_h': 'ffn_down',
  },
  settings(model) {
    const { config, shape } = model;
    const spelt = {
      ...config,
      rope_theta: config.rope_theta ?? config.rotary_emb_base,
      partial_rotary_factor: config.partial_rotary_factor ?? config.rotary_pct,
    };
    const { frequencies } = readRope(spelt, shape.headDim, { partial: 0.25 });
    return {
      ...sizes(model, readCount(config, 'intermediate_size')),
      ...normEpsilon(config, 'layer_norm_eps'),
      ...ropeSettings({ ...model, config: spelt }, { turned: 2 * frequencies.length }),
      use_parallel_residual: { bool: readFlag(config, 'use_parallel_residual', true) },
    };
  },
  change: (name, { shape }) =>
    /^attention\.query_key_value\./.test(name) ? separateGroups(shape.heads, shape.heads) : null,
  check({ config, outputWeight }) {
    requireActivation(config, 'hidden_act', GELU);
    if (!readFlag(config, 'attention_bias', true)) refuse('attention_bias false for gpt_neox');
    if (outputWeight !== 'embed_out.weight') refuse('tie_word_embeddings true for gpt_neox');
  },
};

const falcon: Target = {
  name: 'falcon',
  layers: 'transformer.h.',
  top: {
    'transformer.word_embeddings': 'token_embd',
    'transformer.ln_f': 'output_norm',
    lm_head: 'output',
  },
  inLayer: {
    input_layernorm: 'attn_norm',
    ln_mlp: 'attn_norm',
    ln_attn: 'attn_norm_2',
    'self_attention.query_key_value': 'attn_qkv',
    'self_attention.dense': 'attn_output',
    'mlp.dense_h_to_4h': 'ffn_up',
    'mlp.dense_4h_to_h': 'ffn_down',
  },
  settings: model => ({
    ...sizes(model, readCount(model.config, 'ffn_hidden_size', 4 * model.shape.hiddenSize)),
    ...normEpsilon(model.config, 'layer_norm_epsilon'),
    ...ropeSettings(model, { turned: model.shape.headDim }),
    tensor_data_layout: { string: 'jploski' },
  }),
  change: (name, { shape }) =>
    /^self_attention\.query_key_value\./.test(name) ? separateGroups(shape.heads, shape.kvHeads) : null,
  check({ config }) {
    requireActivation(config, 'activation', GELU);
    if (readFlag(config, 'bias', false)) refuse('bias true for falcon');
    const parallel =
      readFlag(config, 'parallel_attn', true) || readFlag(config, 'new_decoder_architecture', false);
    if (!parallel) refuse('parallel_attn false for falcon');
  },
};

const TARGETS: Readonly<Record<string, Target>> = {
  LlamaForCausalLM: llama,
  MistralForCausalLM: llama,
  MixtralForCausalLM: mixtral,
  Qwen2ForCausalLM: qwen('qwen2'),
  Qwen3ForCausalLM: qwen('qwen3'),
  Gemma2ForCausalLM: gemma2,
  Gemma3ForCausalLM: gemma3,
  Phi3ForCausalLM: phi3,
  CohereForCausalLM: commandR,
  GPT2LMHeadModel: gpt2,
  GPTNeoXForCausalLM: gptNeox,
  FalconForCausalLM: falcon,
};

/** Throws ModelError for a model that llama.cpp would compute differently. */
export function ggufTarget(model: DescribedModel): Target {
  const target = TARGETS[model.served];
  if (!target)
    throw new ModelError(`gguf is written for ${Object.keys(TARGETS).join(', ')}, not for ${model.served}`);
  target.check?.(model);
  return target;
}

export interface Place {
  /** Name of the GGUF tensor that contains it. */
  readonly name: string;
  /** Index within a stacked tensor; null: not stacked. */
  readonly index: number | null;
  readonly change: Change | null;
}

/** `model.layers.3.mlp.up_proj.weight` -> `blk.3.ffn_up.weight` */
export function ggufPlace(target: Target, name: string, model: DescribedModel): Place {
  const [, path = '', kind] = /^(.+)\.(weight|bias)$/.exec(name) ?? [];
  const inLayer = path.startsWith(target.layers)
    ? /^(\d+)\.(.+)$/.exec(path.slice(target.layers.length))
    : null;
  const inner = inLayer ? inLayer[2]! : path;
  const expert = /\.experts\.(\d+)\./.exec(inner);
  const known = expert ? inner.replace(expert[0], '.experts.*.') : inner;
  const renamed = (inLayer ? target.inLayer : target.top)[known];
  if (!renamed) throw new ModelError(`the gguf export has no name for ${name}`);
  return {
    name: `${inLayer ? `blk.${inLayer[1]}.` : ''}${renamed}.${kind}`,
    index: expert ? Number(expert[1]) : null,
    change: target.change?.(`${inner}.${kind}`, model) ?? null,
  };
}
