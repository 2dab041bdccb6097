// Opens a Hugging Face folder as a model: finds its architecture, reads its configs, checks its tensors. It runs
// nothing.
import { join } from 'node:path';
import type { Tensor } from '@tensorflow/tfjs';
import { sizeOf } from '../engine/arrays.ts';
import type { StoredTensor } from '../engine/program.ts';
import type { Architecture, Layers, LinearLayer, ModelKind, ModelShape } from './architecture.ts';
import { bart } from './bart.ts';
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
import { marian } from './marian.ts';
import { mixtral } from './mixtral.ts';
import { ModelError } from './model-error.ts';
import { modernbert } from './modernbert.ts';
import { phi3 } from './phi3.ts';
import { classWithHead, classWithoutHead } from './sequence-head.ts';
import { t5 } from './t5.ts';
import { openWeights, readTensorHeaders } from './weights.ts';

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
  t5,
  bart,
  marian,
];

/**
 * A folder whose tensors are complete and have the right shapes. Names of tensors and layers are those of transformers.
 */
export interface Model {
  readonly directory: string;
  /** Name of its file in src/models: `llama`, `gpt2`. */
  readonly architecture: string;
  /** The transformers class that it is opened as. */
  readonly served: string;
  readonly kind: ModelKind;
  readonly shape: ModelShape;
  /** The content of `config.json`. */
  readonly config: ConfigJson;
  /** The content of `generation_config.json`; empty without one. */
  readonly generationConfig: ConfigJson;
  /** Exactly the tensors of the architecture, in its order. */
  readonly weights: Readonly<Record<string, StoredTensor>>;
  /** Tensors of task heads that the files contain in addition. */
  readonly leftOut: Readonly<Record<string, StoredTensor>>;
  readonly parameters: number;
  /** The layers that an adapter may target; the output projection is not one of them. */
  readonly linearLayers: readonly LinearLayer[];
  /** Name of the output projection's weight [vocab, hidden] (the embedding where tied); null where no tokens are predicted. */
  readonly outputWeight: string | null;
  /** Limits the logits to (-softcap, softcap); null: no limit. */
  readonly logitSoftcap: number | null;
  /** Name of a tensor [1, vocab] that is added to the logits and never trained; null: none. */
  readonly logitBias: string | null;
  /** tokens and positions [rows, length] int32 -> last hidden states, after the final norm [rows, length, hiddenSize]; of an encoder-decoder, the decoder's. */
  hidden(tokens: Tensor, positions: Tensor, layers: Layers): Tensor;
  /** Of an encoder-decoder: the source's tokens and positions [rows, length] int32 -> the encoder's states [rows, length, hiddenSize]. */
  encode(tokens: Tensor, positions: Tensor, layers: Layers): Tensor;
}

/** What config.json alone says about a model. */
export type DescribedModel = Pick<Model, 'served' | 'config' | 'shape' | 'outputWeight'>;

/** Throws ModelError for unsupported models. */
export function describeModel(config: ConfigJson): DescribedModel {
  const { architecture, served, base } = forTask(architectureOf(config), 'as-saved');
  const settings = architecture.readConfig(config, base);
  const outputWeight = architecture.outputWeight(settings);
  return { served, config, shape: architecture.shape(settings), outputWeight };
}

export type CausalModel = Model & { readonly kind: 'causal'; readonly outputWeight: string };

export type EncoderDecoderModel = Model & {
  readonly kind: 'encoder-decoder';
  readonly outputWeight: string;
};

/** A model that generates text, as a continuation or as an answer. */
export type GenerativeModel = CausalModel | EncoderDecoderModel;

/** Throws ModelError unless the model continues texts. */
export function requireCausal(model: Model): CausalModel {
  if (model.kind === 'causal' && model.outputWeight !== null) return model as CausalModel;
  const reason = model.kind === 'causal' ? 'has no output projection here' : `is an ${model.kind} model`;
  throw new ModelError(`${model.architecture} ${reason}: it cannot continue text`);
}

/** Throws ModelError unless the model answers one text with another. */
export function requireEncoderDecoder(model: Model): EncoderDecoderModel {
  if (model.kind === 'encoder-decoder' && model.outputWeight !== null) return model as EncoderDecoderModel;
  throw new ModelError(`${model.architecture} is no encoder-decoder model`);
}

/** Throws ModelError unless the model generates text. */
export const requireGenerative = (model: Model): GenerativeModel =>
  model.kind === 'encoder-decoder' ? requireEncoderDecoder(model) : requireCausal(model);

/**
 * What a model is opened for: what its files contain, or classification and regression of texts, with a head that the
 * files may or may not contain.
 */
export type ModelTask = 'as-saved' | 'sequence';

/** Throws ModelError saying what is wrong with the folder and how to fix it. */
export async function openModel(directory: string, task: ModelTask = 'as-saved'): Promise<Model> {
  const config = await readJsonFile(join(directory, 'config.json'));
  if (!config) throw new ModelError(`${directory} has no config.json: not a Hugging Face model folder`);
  const { architecture, served, base } = forTask(architectureOf(config), task);
  refuseForms(config, architecture);
  const read = architecture.readConfig(config, base);
  const headers = await readTensorHeaders(directory);
  const settings = architecture.withTensors?.(read, new Set(Object.keys(headers))) ?? read;
  const outputWeight = architecture.outputWeight(settings);
  const { weights, leftOut } = await openWeights(directory, headers, {
    architecture: architecture.name,
    expected: architecture.tensors(settings),
    copies: { ...architecture.copies?.(settings), ...(outputWeight && { [HEAD]: outputWeight }) },
    canonicalName: name => architecture.canonicalName(settings, name),
    isHead: name => architecture.isHead?.(settings, name) ?? false,
  });
  return {
    directory,
    architecture: architecture.name,
    served,
    kind: architecture.kind,
    shape: architecture.shape(settings),
    config,
    generationConfig: (await readJsonFile(join(directory, 'generation_config.json'))) ?? {},
    weights,
    leftOut,
    parameters: Object.values(weights).reduce((sum, { shape }) => sum + sizeOf(shape), 0),
    linearLayers: architecture.linearLayers(settings),
    outputWeight,
    logitSoftcap: architecture.logitSoftcap?.(settings) ?? null,
    logitBias: architecture.logitBias?.(settings) ?? null,
    hidden: (tokens, positions, layers) => architecture.hidden(settings, tokens, positions, layers),
    encode(tokens, positions, layers) {
      if (!architecture.encode) throw new Error(`${architecture.name} has no encoder before its decoder`);
      return architecture.encode(settings, tokens, positions, layers);
    },
  };
}

/** The name under which a tied model's files may contain the embedding. */
const HEAD = 'lm_head.weight';

/** Folders that are quantized already hold integers under the same names. */
function refuseForms(config: ConfigJson, { name, kind }: Architecture): void {
  refuse(config, 'quantization_config', null);
  const both = kind === 'encoder-decoder';
  if (readFlag(config, 'is_encoder_decoder', both) === both) return;
  throw new ModelError(`config.json: is_encoder_decoder ${!both} is not supported for ${name}`);
}

interface Served {
  readonly architecture: Architecture;
  readonly served: string;
  /** The class that the architecture implements: `served`, or a causal model's class without the head. */
  readonly base: string;
}

/** Throws ModelError for an unknown architecture. */
export function architectureOf(config: ConfigJson): Served {
  const known = ARCHITECTURES.flatMap(architecture => architecture.serves);
  const asked = Array.isArray(config.architectures) ? config.architectures.map(String) : [];
  for (const served of asked) {
    const base = known.includes(served) ? served : classWithoutHead(served, known);
    const architecture = ARCHITECTURES.find(({ serves }) => base !== null && serves.includes(base));
    if (base !== null && architecture) return { architecture, served, base };
  }
  const given =
    asked.length > 0 ? asked.join(', ') : `none (model_type ${JSON.stringify(config.model_type)})`;
  throw new ModelError(`config.json: architectures ${given}; known are ${known.join(', ')}`);
}

/**
 * A causal model with a classification head has no output projection; encoders list their classes with a head
 * themselves.
 */
function forTask(found: Served, task: ModelTask): Served {
  const { architecture, served, base } = found;
  if (task === 'as-saved' && served === base) return found;
  if (architecture.kind === 'causal')
    return { architecture: withoutOutput(architecture), served: classWithHead(base), base };
  const named = classWithHead(served);
  return architecture.serves.includes(named) ? { architecture, served: named, base: named } : found;
}

/** Output projections that are not the embedding, and the head that replaces them. */
const OUTPUTS = ['lm_head.weight', 'embed_out.weight'];
const SCORE = 'score.weight';

function withoutOutput(architecture: Architecture): Architecture {
  return {
    ...architecture,
    tensors: config =>
      Object.fromEntries(
        Object.entries(architecture.tensors(config)).filter(([name]) => !OUTPUTS.includes(name)),
      ),
    canonicalName: (config, name) => (name === SCORE ? name : architecture.canonicalName(config, name)),
    isHead: (_, name) => name === SCORE || OUTPUTS.includes(name),
    outputWeight: () => null,
  };
}
