// anneal-tiny's Hugging Face folder before training: JSON files and random initial weights.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TensorToWrite, writeSafetensors } from '../formats/safetensors.ts';
import { llama } from '../models/llama.ts';
import { countPieces, tokenizerJson, trainBpe } from './bpe.ts';
import { BEGIN, chatTemplate, END, END_OF_TURN, PAD, plainTexts, specialTokens } from './chat-format.ts';
import { createDocument } from './corpus.ts';
import { createRandom } from './random.ts';
import type { Recipe } from './recipe.ts';

const idOf = (token: (typeof specialTokens)[number]) => specialTokens.indexOf(token);

export function configJson(r: Recipe): Record<string, unknown> {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: r.vocabSize,
    hidden_size: r.hiddenSize,
    intermediate_size: r.intermediateSize,
    num_hidden_layers: r.layers,
    num_attention_heads: r.heads,
    num_key_value_heads: r.kvHeads,
    head_dim: r.hiddenSize / r.heads,
    hidden_act: 'silu',
    max_position_embeddings: r.maxPositions,
    rms_norm_eps: r.normEpsilon,
    rope_theta: r.ropeTheta,
    rope_scaling: null,
    attention_bias: false,
    attention_dropout: 0,
    mlp_bias: false,
    tie_word_embeddings: true,
    initializer_range: r.initialDeviation,
    bos_token_id: idOf(BEGIN),
    eos_token_id: [idOf(END), idOf(END_OF_TURN)],
    pad_token_id: idOf(PAD),
    torch_dtype: 'bfloat16',
    use_cache: true,
  };
}

/** Writes everything but the weights. The vocabulary is trained here, on the corpus. */
export function writeJsonFiles(folder: string, r: Recipe): void {
  mkdirSync(folder, { recursive: true });
  const write = (name: string, content: object) =>
    writeFileSync(
      join(folder, name),
      `${JSON.stringify(content, null, name === 'tokenizer.json' ? 0 : 2)}\n`,
    );
  write('config.json', configJson(r));
  write('tokenizer.json', vocabulary(r));
  write('tokenizer_config.json', {
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: BEGIN,
    eos_token: END,
    pad_token: PAD,
    add_bos_token: true,
    clean_up_tokenization_spaces: false,
    model_max_length: r.maxPositions,
    chat_template: chatTemplate,
  });
  write('generation_config.json', {
    bos_token_id: idOf(BEGIN),
    eos_token_id: [idOf(END), idOf(END_OF_TURN)],
    pad_token_id: idOf(PAD),
  });
}

function vocabulary(r: Recipe): object {
  const texts = function* () {
    for (let i = 0; i < r.vocabularyDocuments; i++) yield* plainTexts(createDocument(r.seed, i));
  };
  return tokenizerJson(trainBpe(countPieces(texts()), specialTokens, r.vocabSize), specialTokens, BEGIN);
}

/** Writes the random initial weights in float32. */
export async function writeFirstWeights(folder: string, r: Recipe): Promise<void> {
  const config = llama.readConfig(readJson(join(folder, 'config.json')), 'LlamaForCausalLM');
  const shapes = Object.entries(llama.tensors(config));
  const tensors = shapes.map(([name, shape], index): [string, TensorToWrite] => {
    const random = createRandom(r.seed, index);
    const data = new Float32Array(shape.reduce((size, length) => size * length, 1));
    if (shape.length === 1) data.fill(1);
    else fillNormal(data, deviationOf(name, r), () => random.next());
    return [name, { dtype: 'F32', shape, data }];
  });
  await writeSafetensors(join(folder, 'model.safetensors'), Object.fromEntries(tensors));
}

/** As in GPT-2: projections into the residual stream start smaller. */
function deviationOf(name: string, r: Recipe): number {
  const intoResidual = name.endsWith('o_proj.weight') || name.endsWith('down_proj.weight');
  return intoResidual ? r.initialDeviation / Math.sqrt(2 * r.layers) : r.initialDeviation;
}

/** Box and Muller. */
function fillNormal(values: Float32Array, deviation: number, uniform: () => number): void {
  for (let i = 0; i < values.length; i++) {
    const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
    values[i] = deviation * radius * Math.cos(2 * Math.PI * uniform());
  }
}

export const readJson = (path: string) => JSON.parse(readFileSync(path, 'utf8'));
