// Checks requested hyperparameters against their limits and resolves every 'auto'. All defaults are here.
import { moduleNames, selectLayers } from '../models/lora.ts';
import { ModelError } from '../models/model-error.ts';
import type { Model } from '../models/registry.ts';
import { TrainingFailure } from './failure.ts';
import type { RequestedHyperparameters, ResolvedHyperparameters } from './protocol.ts';

interface Limit {
  readonly minimum: number;
  readonly maximum: number;
  /** Exclusive minimum. */
  readonly above?: boolean;
  readonly integer?: boolean;
}

/** Ranges of the hyperparameters. The first three are OpenAI's. */
export const hyperparameterLimits = {
  n_epochs: { minimum: 1, maximum: 50, integer: true },
  batch_size: { minimum: 1, maximum: 256, integer: true },
  learning_rate_multiplier: { minimum: 0, maximum: 1000, above: true },
  rank: { minimum: 1, maximum: 256, integer: true },
  alpha: { minimum: 0, maximum: 4096, above: true },
  dropout: { minimum: 0, maximum: 0.9 },
  learning_rate: { minimum: 0, maximum: 1, above: true },
  weight_decay: { minimum: 0, maximum: 1 },
  warmup_ratio: { minimum: 0, maximum: 1 },
  max_grad_norm: { minimum: 0, maximum: 1000, above: true },
  max_length: { minimum: 8, maximum: 1_048_576, integer: true },
  beta: { minimum: 0, maximum: 2, above: true },
  compute_multiplier: { minimum: 0.00001, maximum: 10, above: true },
  eval_interval: { minimum: 1, maximum: 1_000_000, integer: true },
  eval_samples: { minimum: 1, maximum: 64, integer: true },
  kl_coefficient: { minimum: 0, maximum: 10 },
  max_completion_length: { minimum: 1, maximum: 65_536, integer: true },
} as const satisfies Partial<Record<keyof ResolvedHyperparameters, Limit>>;

/** The adapter that the run starts from; its shape cannot be changed. */
export interface StartingAdapter {
  readonly rank: number;
  readonly alpha: number;
  readonly targetModules: readonly string[];
}

export interface Circumstances {
  readonly model: Pick<Model, 'shape' | 'linearLayers'>;
  /** Number of training examples. */
  readonly examples: number;
  readonly start: StartingAdapter | null;
  /** Of the objective. */
  readonly rate?: number;
  /** The objective's default batch size. */
  batchSize?(examples: number): number;
}

const MAX_LENGTH = 4096;
const RANK = 16;
const WEIGHT_DECAY = 0.01;
const WARMUP_RATIO = 0.05;
const MAX_GRAD_NORM = 1;

const invalid = (name: string, message: string) =>
  new TrainingFailure('invalid_hyperparameters', `.hyperparameters.${name}`, message);

function checkNumber(name: string, value: unknown, limit: Limit): void {
  const { minimum, maximum, above, integer } = limit;
  const fits =
    typeof value === 'number' &&
    (above ? value > minimum : value >= minimum) &&
    value <= maximum &&
    (!integer || Number.isInteger(value));
  if (fits) return;
  const kind = integer ? 'an integer' : 'a number';
  const range = above ? `above ${minimum} and at most ${maximum}` : `from ${minimum} to ${maximum}`;
  throw invalid(name, `${name} must be ${kind} ${range}; it is ${JSON.stringify(value)}`);
}

/** The requested number; undefined for 'auto' or absent. */
function asked(
  requested: RequestedHyperparameters,
  name: keyof typeof hyperparameterLimits,
): number | undefined {
  const value = requested[name];
  if (value === undefined || value === null || value === 'auto') return undefined;
  checkNumber(name, value, hyperparameterLimits[name]);
  return value;
}

/** OpenAI's rule: three epochs, more for few examples, fewer for very many. */
export function automaticEpochs(examples: number): number {
  if (examples * 3 < 100) return Math.min(25, Math.max(1, Math.floor(100 / Math.max(1, examples))));
  if (examples * 3 > 25_000) return Math.max(1, Math.floor(25_000 / examples));
  return 3;
}

/**
 * 0.2% of the examples like OpenAI, but 4 if an epoch then still has 25 steps. Of 2, 4 and 8 none is clearly best
 * (docs/training.md); fewer, larger steps cost less where the optimizer state is large.
 */
export function automaticBatchSize(examples: number): number {
  const small = Math.min(4, Math.max(1, Math.floor(examples / 25)));
  return Math.min(256, Math.max(small, Math.round(examples * 0.002)));
}

/**
 * The learning rate that the multiplier is applied to. It decreases with the width, as in maximal update
 * parametrization for Adam (https://arxiv.org/abs/2203.03466), within the range used for fine-tuning; full fine-tuning
 * uses a tenth of LoRA's (https://thinkingmachines.ai/blog/lora/).
 */
export function baseLearningRate(adapter: 'lora' | 'full', hiddenSize: number): number {
  const lora = Math.min(2e-3, Math.max(2e-4, (2e-4 * 4096) / hiddenSize));
  return adapter === 'lora' ? lora : lora / 10;
}

const roundTo = (value: number, digits: number) => Number(value.toPrecision(digits));

function resolveRate(requested: RequestedHyperparameters, base: number) {
  const rate = asked(requested, 'learning_rate');
  const multiplier = asked(requested, 'learning_rate_multiplier');
  if (rate !== undefined && multiplier !== undefined)
    throw invalid('learning_rate', 'learning_rate and learning_rate_multiplier exclude each other: give one');
  if (rate !== undefined) return { rate, multiplier: roundTo(rate / base, 6) };
  return { rate: base * (multiplier ?? 1), multiplier: multiplier ?? 1 };
}

function resolveTargets(requested: RequestedHyperparameters, { model, start }: Circumstances): string[] {
  const wanted = requested.target_modules;
  if (start && (wanted === undefined || wanted === null)) return [...start.targetModules];
  const targets = wanted === undefined || wanted === null ? 'all-linear' : wanted;
  try {
    const layers = selectLayers(model.linearLayers, targets);
    return targets === 'all-linear' ? moduleNames(layers) : [...new Set(targets)];
  } catch (error) {
    if (error instanceof ModelError) throw invalid('target_modules', error.message);
    throw error;
  }
}

function refuseReshaping(resolved: ResolvedHyperparameters, start: StartingAdapter): void {
  const how = 'a fine-tuned adapter is trained on as it is; leave the field out';
  if (resolved.adapter === 'full')
    throw invalid('adapter', `adapter 'full' cannot go on from an adapter: ${how}`);
  if (resolved.rank !== start.rank)
    throw invalid('rank', `rank is ${resolved.rank}, the adapter's is ${start.rank}: ${how}`);
  if (resolved.alpha !== start.alpha)
    throw invalid('alpha', `alpha is ${resolved.alpha}, the adapter's is ${start.alpha}: ${how}`);
  const same = [...resolved.target_modules].sort().join() === [...start.targetModules].sort().join();
  if (!same)
    throw invalid('target_modules', `the adapter's target_modules are ${start.targetModules}: ${how}`);
}

/** Undefined for 'auto' or absent. */
export const resolveBeta = (requested: RequestedHyperparameters): number | undefined =>
  asked(requested, 'beta');

/** Of reinforcement. */
export interface RolloutNumbers {
  readonly compute_multiplier: number;
  readonly eval_interval: number;
  readonly eval_samples: number;
  readonly reasoning_effort: 'default';
  readonly kl_coefficient: number;
  readonly max_completion_length: number;
}

/** The GRPO paper's value (arXiv 2402.03300, 4.2). */
const KL_COEFFICIENT = 0.04;
/** `trl`'s. */
const MAX_COMPLETION_LENGTH = 256;
const EVAL_INTERVAL = 5;
const EVAL_SAMPLES = 2;

export function resolveRollouts(
  requested: RequestedHyperparameters,
  model: Circumstances['model'],
): RolloutNumbers {
  const maxLength = resolveMaxLength(requested, model);
  const longest =
    asked(requested, 'max_completion_length') ?? Math.min(MAX_COMPLETION_LENGTH, Math.floor(maxLength / 2));
  if (longest >= maxLength)
    throw invalid(
      'max_completion_length',
      `max_completion_length is ${longest}, which leaves no room for a prompt: an example has at most ${maxLength} tokens`,
    );
  return {
    compute_multiplier: asked(requested, 'compute_multiplier') ?? 1,
    eval_interval: asked(requested, 'eval_interval') ?? EVAL_INTERVAL,
    eval_samples: asked(requested, 'eval_samples') ?? EVAL_SAMPLES,
    reasoning_effort: 'default',
    kl_coefficient: asked(requested, 'kl_coefficient') ?? KL_COEFFICIENT,
    max_completion_length: longest,
  };
}

/** Resolved before the others, as it decides how the data is truncated. */
export function resolveMaxLength(requested: RequestedHyperparameters, model: Circumstances['model']): number {
  const { maxPositions } = model.shape;
  const maxLength = asked(requested, 'max_length') ?? Math.min(maxPositions, MAX_LENGTH);
  if (maxLength <= maxPositions) return maxLength;
  throw invalid('max_length', `max_length is ${maxLength}, but the model has ${maxPositions} positions`);
}

function choose<T extends string | boolean>(name: string, value: T | undefined, allowed: readonly T[]): T {
  const chosen = value ?? allowed[0]!;
  if (allowed.includes(chosen)) return chosen;
  throw invalid(name, `${name} must be one of ${allowed.join(', ')}; it is ${JSON.stringify(value)}`);
}

/** Quantization is for frozen weights: trained ones are not quantized. */
function resolveQuantization(
  requested: RequestedHyperparameters,
  adapter: ResolvedHyperparameters['adapter'],
): ResolvedHyperparameters['quantization'] {
  const chosen = choose('quantization', requested.quantization, ['none', 'int16', 'int8', 'int4', 'nf4']);
  if (chosen === 'none' || adapter === 'lora') return chosen;
  throw invalid(
    'quantization',
    `quantization '${chosen}' is for weights that stay as they are; adapter 'full' trains all`,
  );
}

/** Throws TrainingFailure naming the parameter and its limit. */
export function resolveHyperparameters(
  requested: RequestedHyperparameters,
  circumstances: Circumstances,
): ResolvedHyperparameters {
  const { model, examples, start } = circumstances;
  const adapter = choose('adapter', requested.adapter, ['lora', 'full']);
  const base = baseLearningRate(adapter, model.shape.hiddenSize) * (circumstances.rate ?? 1);
  const { rate, multiplier } = resolveRate(requested, base);
  const rank = asked(requested, 'rank') ?? start?.rank ?? RANK;
  const resolved: ResolvedHyperparameters = {
    n_epochs: asked(requested, 'n_epochs') ?? automaticEpochs(examples),
    batch_size: Math.min(
      asked(requested, 'batch_size') ?? (circumstances.batchSize ?? automaticBatchSize)(examples),
      examples,
    ),
    learning_rate_multiplier: multiplier,
    adapter,
    rank,
    alpha: asked(requested, 'alpha') ?? start?.alpha ?? 2 * rank,
    dropout: asked(requested, 'dropout') ?? 0,
    target_modules: resolveTargets(requested, circumstances),
    learning_rate: rate,
    weight_decay: asked(requested, 'weight_decay') ?? WEIGHT_DECAY,
    warmup_ratio: asked(requested, 'warmup_ratio') ?? WARMUP_RATIO,
    schedule: choose('schedule', requested.schedule, ['cosine', 'linear', 'constant']),
    max_grad_norm: asked(requested, 'max_grad_norm') ?? MAX_GRAD_NORM,
    max_length: resolveMaxLength(requested, model),
    quantization: resolveQuantization(requested, adapter),
    gradient_checkpointing: choose('gradient_checkpointing', requested.gradient_checkpointing, [false, true]),
  };
  if (start) refuseReshaping(resolved, start);
  return resolved;
}
