// Model folders of published shapes with random weights, for benchmarks. It trains and measures nothing.
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
    n_positions: 1024,
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
} as const;

export type ShapeName = keyof typeof SHAPES;

/** The adapted projections: queries, keys, values and the attention's output. */
export const TARGETS: Record<ShapeName, string[]> = {
  'gpt2-124m': ['c_attn', 'attn.c_proj'],
  'llama-160m': ['q_proj', 'k_proj', 'v_proj', 'o_proj'],
};

/** About normal with the standard deviation that these models start from; norms' weights are 1, biases 0. */
function firstValues(name: string, size: number, seed: number): Float32Array {
  if (/(norm|ln_\w+)\.weight$/.test(name)) return new Float32Array(size).fill(1);
  if (name.endsWith('.bias')) return new Float32Array(size);
  let state = seed;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 - 0.5;
  };
  const spread = 0.02 * Math.sqrt(6);
  return Float32Array.from({ length: size }, () => (next() + next()) * spread);
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
  const tensors: Record<string, TensorToWrite> = {};
  Object.entries(architecture.tensors(architecture.readConfig(config, served))).forEach(
    ([name, size], index) => {
      const count = size.reduce((product, length) => product * length, 1);
      tensors[name] = { dtype: 'F32', shape: size, data: firstValues(name, count, index + 1) };
    },
  );
  await writeSafetensors(file, tensors);
}
