// The heads of transformers' `...ForSequenceClassification` classes, for classification and regression: pooling,
// layers, and the tensors' names in files. The losses are elsewhere.
import type { Tensor } from '@tensorflow/tfjs';
import { layerNorm } from '../engine/ops.ts';
import { tf } from '../engine/tf.ts';
import { readActivation } from './activations.ts';
import { type ConfigJson, readChoice, readCount, readFlag, readPositive } from './config-fields.ts';
import type { PoolingMode } from './pooling.ts';
import type { Model } from './registry.ts';

export interface SequenceHead {
  readonly pooling: PoolingMode;
  /** Shapes of its tensors by transformers' names. */
  readonly tensors: Readonly<Record<string, readonly number[]>>;
  /** Name of the last layer, whose outputs are the classes or the number. */
  readonly out: string;
  /** Modules that contain them, for PEFT's `modules_to_save`. */
  readonly modules: readonly string[];
  /** Standard deviation of newly initialized matrices. */
  readonly spread: number;
  /** pooled [n, hiddenSize] -> [n, outputs] */
  logits(pooled: Tensor, weight: (name: string) => Tensor): Tensor;
}

interface Layer {
  readonly name: string;
  readonly bias: boolean;
  readonly after?: (x: Tensor, weight: (name: string) => Tensor) => Tensor;
  /** Names of further tensors, which `after` reads. */
  readonly more?: readonly string[];
}

/** Hidden layers, and the output layer `out`. */
interface HeadRule {
  readonly pooling: PoolingMode;
  readonly layers: readonly Layer[];
  readonly out: { readonly name: string; readonly bias: boolean };
  readonly modules: readonly string[];
  readonly spread?: number;
}

const DENSE = { bias: true, after: tf.tanh as (x: Tensor) => Tensor };

const RULES: Readonly<Record<string, (config: ConfigJson) => HeadRule>> = {
  Bert: () => ({
    pooling: 'cls',
    layers: [{ ...DENSE, name: 'bert.pooler.dense' }],
    out: { name: 'classifier', bias: true },
    modules: ['pooler', 'classifier'],
  }),
  Roberta: robertaHead,
  XLMRoberta: robertaHead,
  DistilBert: () => ({
    pooling: 'cls',
    layers: [{ name: 'pre_classifier', bias: true, after: tf.relu as (x: Tensor) => Tensor }],
    out: { name: 'classifier', bias: true },
    modules: ['pre_classifier', 'classifier'],
  }),
  ModernBert: modernBertHead,
  Bart: bartHead,
  Marian: bartHead,
  T5: config => ({
    ...onLastToken,
    spread: readPositive(config, 'initializer_factor', 1) * readCount(config, 'd_model', 512) ** -0.5,
  }),
};

/** For encoder-decoders: the state of the text's last token, its end token, represents it. */
const onLastToken: HeadRule = {
  pooling: 'last',
  layers: [{ ...DENSE, name: 'classification_head.dense' }],
  out: { name: 'classification_head.out_proj', bias: true },
  modules: ['classification_head'],
};

function bartHead(config: ConfigJson): HeadRule {
  return { ...onLastToken, spread: readPositive(config, 'init_std', 0.02) };
}

function robertaHead(): HeadRule {
  return {
    pooling: 'cls',
    layers: [{ ...DENSE, name: 'classifier.dense' }],
    out: { name: 'classifier.out_proj', bias: true },
    modules: ['classifier'],
  };
}

function modernBertHead(config: ConfigJson): HeadRule {
  const activation = readActivation(config, 'classifier_activation', 'gelu');
  const normBias = readFlag(config, 'norm_bias', false);
  const epsilon = readPositive(config, 'norm_eps', 1e-5);
  const norm = (x: Tensor, weight: (name: string) => Tensor): Tensor => {
    const scale = weight('head.norm.weight');
    return layerNorm(x, scale, normBias ? weight('head.norm.bias') : tf.zerosLike(scale), epsilon);
  };
  return {
    pooling: readChoice(config, 'classifier_pooling', ['cls', 'mean'], 'cls') === 'mean' ? 'mean' : 'cls',
    layers: [
      {
        name: 'head.dense',
        bias: readFlag(config, 'classifier_bias', false),
        after: (x, weight) => norm(activation(x), weight),
        more: ['head.norm.weight', ...(normBias ? ['head.norm.bias'] : [])],
      },
    ],
    out: { name: 'classifier', bias: true },
    modules: ['head', 'classifier'],
  };
}

/** For every causal model. */
const score: HeadRule = {
  pooling: 'last',
  layers: [],
  out: { name: 'score', bias: false },
  modules: ['score'],
};

function ruleOf(model: Model): HeadRule {
  if (model.kind === 'causal') return score;
  const rule = RULES[familyOf(model.served)];
  if (!rule) throw new Error(`${model.served} has no rule for its head`);
  return rule(model.config);
}

export function sequenceHead(model: Model, outputs: number): SequenceHead {
  const { pooling, layers, out, modules, spread } = ruleOf(model);
  const { hiddenSize: width } = model.shape;
  const shapesOf = ({ name, bias }: { name: string; bias: boolean }, rows: number) => [
    [`${name}.weight`, [rows, width]] as const,
    ...(bias ? [[`${name}.bias`, [rows]] as const] : []),
  ];
  const tensors = [
    ...layers.flatMap(layer => [
      ...shapesOf(layer, width),
      ...(layer.more ?? []).map(name => [name, [width]] as const),
    ]),
    ...shapesOf(out, outputs),
  ];
  return {
    pooling,
    modules,
    spread: spread ?? readPositive(model.config, 'initializer_range', 0.02),
    out: out.name,
    tensors: Object.fromEntries(tensors),
    logits(pooled, weight) {
      const apply = (x: Tensor, { name, bias }: { name: string; bias: boolean }): Tensor => {
        const product: Tensor = tf.matMul(x as never, weight(`${name}.weight`) as never, false, true);
        return bias ? tf.add(product, weight(`${name}.bias`)) : product;
      };
      const state = layers.reduce(
        (x, layer) => layer.after?.(apply(x, layer), weight) ?? apply(x, layer),
        pooled,
      );
      return apply(state, out);
    },
  };
}

// ---- names of classes

const WITH_HEAD = 'ForSequenceClassification';
const ENDS = /((LMHead|MT)?Model|For[A-Z]\w*)$/;

/** `Llama` of `LlamaForCausalLM`, `Marian` of `MarianMTModel`. */
const familyOf = (served: string): string => served.replace(ENDS, '');

/** The class with a head that corresponds to a class without: `LlamaForSequenceClassification`. */
export function classWithHead(served: string): string {
  const family = familyOf(served);
  // The plain name is that of the model with images.
  return `${family === 'Gemma3' ? 'Gemma3Text' : family}${WITH_HEAD}`;
}

/**
 * The class without a head that corresponds to a causal model's class with one, among those given; null if none does.
 */
export function classWithoutHead(name: string, known: readonly string[]): string | null {
  if (!name.endsWith(WITH_HEAD)) return null;
  return known.find(each => each !== name && classWithHead(each) === name) ?? null;
}
