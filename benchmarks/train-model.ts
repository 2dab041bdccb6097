// Makes model folders of published shapes with random weights, for benchmarks.
import { access, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TensorToWrite, writeSafetensors } from '../src/formats/safetensors.ts';
import { architectureOf } from '../src/models/registry.ts';

/** `config.json` of the shapes. */
export const SHAPES = {
  'gpt2-124m': {
    architectures: ['GPT2LMHeadModel'],
    model_type: 'gpt2',
    vocab_size: 50257,
    n_embd: 768,
    n_layer: 12,
    n_head: 12,
    // Published with 1024; rows of 2048 tokens are measured too.
    n_positions: 2048,
    activation_function: 'gelu_new',
    layer_norm_epsilon: 1e-5,
    attn_pdrop: 0,
    embd_pdrop: 0,
    resid_pdrop: 0,
  },
  'llama-160m': {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: 32000,
    hidden_size: 768,
    intermediate_size: 3072,
    num_hidden_layers: 12,
    num_attention_heads: 12,
    num_key_value_heads: 12,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    hidden_act: 'silu',
    tie_word_embeddings: false,
  },
  // A smoke test that takes seconds; its timings mean nothing.
  'llama-tiny': {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: 512,
    hidden_size: 64,
    intermediate_size: 128,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    hidden_act: 'silu',
    tie_word_embeddings: false,
  },
  // TinyLlama's shape.
  'llama-1b': {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: 32000,
    hidden_size: 2048,
    intermediate_size: 5632,
    num_hidden_layers: 22,
    num_attention_heads: 32,
    num_key_value_heads: 4,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    hidden_act: 'silu',
    tie_word_embeddings: false,
  },
  'bert-base': {
    architectures: ['BertForMaskedLM'],
    model_type: 'bert',
    vocab_size: 30522,
    hidden_size: 768,
    intermediate_size: 3072,
    num_hidden_layers: 12,
    num_attention_heads: 12,
    max_position_embeddings: 512,
    type_vocab_size: 2,
    layer_norm_eps: 1e-12,
    hidden_act: 'gelu',
    hidden_dropout_prob: 0,
    attention_probs_dropout_prob: 0,
    pad_token_id: 0,
  },
  't5-small': {
    architectures: ['T5ForConditionalGeneration'],
    model_type: 't5',
    is_encoder_decoder: true,
    vocab_size: 32128,
    d_model: 512,
    d_ff: 2048,
    d_kv: 64,
    num_layers: 6,
    num_decoder_layers: 6,
    num_heads: 8,
    relative_attention_num_buckets: 32,
    relative_attention_max_distance: 128,
    feed_forward_proj: 'relu',
    layer_norm_epsilon: 1e-6,
    dropout_rate: 0,
    tie_word_embeddings: true,
    pad_token_id: 0,
    eos_token_id: 1,
    decoder_start_token_id: 0,
  },
} as const;

export type ShapeName = keyof typeof SHAPES;

/** The adapted projections: queries, keys, values and the attention's output. */
export const TARGETS: Record<ShapeName, string[]> = {
  'gpt2-124m': ['c_attn', 'attn.c_proj'],
  'llama-160m': ['q_proj', 'k_proj', 'v_proj', 'o_proj'],
  'llama-tiny': ['q_proj', 'k_proj', 'v_proj', 'o_proj'],
  'llama-1b': ['q_proj', 'k_proj', 'v_proj', 'o_proj'],
  'bert-base': ['query', 'key', 'value'],
  't5-small': ['q', 'k', 'v', 'o'],
};

/** Models that are published in bfloat16 are stored so. */
const STORED: Partial<Record<ShapeName, 'BF16'>> = { 'llama-1b': 'BF16' };

/** Roughly normal, with the usual initial standard deviation; norm weights are 1, biases 0. */
function firstValues(name: string, size: number, seed: number): Float32Array {
  const values = new Float32Array(size);
  if (/(norm|ln_\w+)\.weight$/i.test(name)) return values.fill(1);
  if (name.endsWith('.bias')) return values;
  const spread = (0.02 * Math.sqrt(6)) / 2 ** 32;
  let state = seed;
  for (let i = 0; i < size; i++) {
    const last = state;
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = (state - last) * spread;
  }
  return values;
}

/** Makes the folder once. */
export async function makeModel(directory: string, shape: ShapeName): Promise<void> {
  const file = join(directory, 'model.safetensors');
  if (
    await access(file).then(
      () => true,
      () => false,
    )
  )
    return;
  await mkdir(directory, { recursive: true });
  const config = SHAPES[shape];
  await writeFile(join(directory, 'config.json'), JSON.stringify(config));
  const { architecture, served } = architectureOf(config);
  const shapes = Object.entries(architecture.tensors(architecture.readConfig(config, served)));
  const tensors = shapes.map(([name, size], index): [string, TensorToWrite] => {
    const count = size.reduce((product, length) => product * length, 1);
    const data = async () => firstValues(name, count, index + 1);
    return [name, { dtype: STORED[shape] ?? 'F32', shape: size, data }];
  });
  await writeSafetensors(file, Object.fromEntries(tensors));
}
