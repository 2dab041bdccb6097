// Opens a Hugging Face folder as a model: finds its architecture, reads its configs, has its tensors checked. It runs nothing.
import { join } from 'node:path';
import type { Tensor } from '@tensorflow/tfjs';
import type { StoredTensor } from '../engine/program.ts';
import type { Architecture, Layers, LinearLayer, ModelKind, ModelShape } from './architecture.ts';
import { bert } from './bert.ts';
import { cohere } from './cohere.ts';
import { type ConfigJson, readFlag, refuse } from './config-fields.ts';
import { distilbert } from './distilbert.ts';
import { falcon } from './falcon.ts';
import { gemma } from './gemma.ts';
import { gptNeox } from './gpt-neox.ts';
import { gpt2 } from './gpt2.ts';
import { readJsonFile } from './json-file.ts';
import { llama } from './llama.ts';
import { mixtral } from './mixtral.ts';
import { ModelError } from './model-error.ts';
import { modernbert } from './modernbert.ts';
import { phi3 } from './phi3.ts';
import { openWeights } from './weights.ts';

const ARCHITECTURES: readonly Architecture[] = [
  llama,
  gpt2,
  gptNeox,
  falcon,
  mixtral,
  gemma,
  phi3,
  cohere,
  bert,
  distilbert,
  modernbert,
];

/** A folder whose tensors are all there and all fit. Names of tensors and layers are `transformers`' own. */
export interface Model {
  readonly directory: string;
  /** Its file's name in this folder: `llama`, `gpt2`. */
  readonly architecture: string;
  readonly kind: ModelKind;
  readonly shape: ModelShape;
  /** `config.json` as it is. */
  readonly config: ConfigJson;
  /** `generation_config.json` as it is; empty without one. */
  readonly generationConfig: ConfigJson;
  /** Exactly the tensors that the architecture has, in its order. */
  readonly weights: Readonly<Record<string, StoredTensor>>;
  /** Tensors of a task's head that the files have and that nothing here computes. */
  readonly leftOut: readonly string[];
  readonly parameters: number;
  /** What an adapter may target; the output projection is not among them. */
  readonly linearLayers: readonly LinearLayer[];
  /** Name of the output projection's weight [vocab, hidden] (the embedding where tied); null where no tokens are predicted. */
  readonly outputWeight: string | null;
  /** Logits are kept within (-softcap, softcap); null: as they are. */
  readonly logitSoftcap: number | null;
  /** tokens and positions [rows, length] int32 -> last hidden states, after the final norm [rows, length, hiddenSize]. */
  hidden(tokens: Tensor, positions: Tensor, layers: Layers): Tensor;
}

export type CausalModel = Model & { readonly kind: 'causal'; readonly outputWeight: string };

/** Throws ModelError for a model that does not continue texts. */
export function requireCausal(model: Model): CausalModel {
  if (model.kind === 'causal' && model.outputWeight !== null) return model as CausalModel;
  throw new ModelError(`${model.architecture} is an ${model.kind} model: it continues no text`);
}

/** Throws ModelError saying what is wrong with the folder and what would be right. */
export async function openModel(directory: string): Promise<Model> {
  const config = await readJsonFile(join(directory, 'config.json'));
  if (!config) throw new ModelError(`${directory} has no config.json: not a Hugging Face model folder`);
  refuseQuantized(config);
  const { architecture, served } = architectureOf(config);
  const settings = architecture.readConfig(config, served);
  const { weights, leftOut } = await openWeights(directory, {
    architecture: architecture.name,
    expected: architecture.tensors(settings),
    outputWeight: architecture.outputWeight(settings),
    canonicalName: name => architecture.canonicalName(settings, name),
    isHead: name => architecture.isHead?.(settings, name) ?? false,
  });
  return {
    directory,
    architecture: architecture.name,
    kind: architecture.kind,
    shape: architecture.shape(settings),
    config,
    generationConfig: (await readJsonFile(join(directory, 'generation_config.json'))) ?? {},
    weights,
    leftOut,
    parameters: Object.values(weights).reduce((sum, { shape }) => sum + sizeOf(shape), 0),
    linearLayers: architecture.linearLayers(settings),
    outputWeight: architecture.outputWeight(settings),
    logitSoftcap: architecture.logitSoftcap?.(settings) ?? null,
    hidden: (tokens, positions, layers) => architecture.hidden(settings, tokens, positions, layers),
  };
}

/** Quantised folders hold integers under the same names; as float they would only look right. */
function refuseQuantized(config: ConfigJson): void {
  refuse(config, 'quantization_config', null);
  if (readFlag(config, 'is_encoder_decoder', false)) {
    throw new ModelError('config.json: is_encoder_decoder true is not served');
  }
}

/** Throws ModelError for an architecture that is not known. */
export function architectureOf(config: ConfigJson): { architecture: Architecture; served: string } {
  const known = ARCHITECTURES.flatMap(architecture => architecture.serves);
  const asked = Array.isArray(config.architectures) ? config.architectures.map(String) : [];
  const served = asked.find(name => known.includes(name));
  const architecture = ARCHITECTURES.find(({ serves }) => served !== undefined && serves.includes(served));
  if (served !== undefined && architecture) return { architecture, served };
  const given =
    asked.length > 0 ? asked.join(', ') : `none (model_type ${JSON.stringify(config.model_type)})`;
  throw new ModelError(`config.json: architectures ${given}; known are ${known.join(', ')}`);
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((size, length) => size * length, 1);
