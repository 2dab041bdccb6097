// Samples the next token from logits: temperature, nucleus (top-p), penalties and biases. Stopping is left to the caller.
import { philox } from '../training/random.ts';

export interface Sampling {
  /** 0: always the most probable token. */
  temperature: number;
  /** Nucleus: the most probable tokens whose cumulative probability reaches this. */
  topP: number;
  /** Unsigned 32 bit. The same seed, prompt and parameters give the same tokens. */
  seed: number;
  frequencyPenalty: number;
  presencePenalty: number;
  /** Token id -> added to its logit. */
  logitBias: Record<number, number>;
}

export const GREEDY: Sampling = {
  temperature: 0,
  topP: 1,
  seed: 0,
  frequencyPenalty: 0,
  presencePenalty: 0,
  logitBias: {},
};

/** Separates the sampler's random stream from others with the same seed. */
const SAMPLING_KEY = 0x5a4d504c;
/** Below this, dividing by the temperature overflows; sampling is greedy, which is the limit anyway. */
const MIN_TEMPERATURE = 1e-4;

/** Uniform in [0, 1), a function of its arguments alone. */
export function uniformAt(seed: number, choice: number, position: number): number {
  const block = Uint32Array.of(position, choice, 0, 0);
  philox(block, seed >>> 0, SAMPLING_KEY);
  return block[0]! / 2 ** 32;
}

/** Index of the largest value, the first among equals. */
export function argMax(values: Float32Array): number {
  let best = 0;
  let largest = values[0]!;
  for (let i = 1; i < values.length; i++) {
    const value = values[i]!;
    if (value > largest) {
      largest = value;
      best = i;
    }
  }
  return best;
}

/** exp((logit - largest) / temperature), not normalised, and their sum. */
function weigh(logits: Float32Array, temperature: number): { weights: Float64Array; sum: number } {
  const largest = logits[argMax(logits)]!;
  const weights = new Float64Array(logits.length);
  let sum = 0;
  for (let i = 0; i < logits.length; i++) {
    const weight = Math.exp((logits[i]! - largest) / temperature);
    weights[i] = weight;
    sum += weight;
  }
  return { weights, sum };
}

/** The first index whose cumulative sum exceeds `target`; if rounding falls short, the last with a nonzero weight. */
function indexAt(weights: ArrayLike<number>, target: number): number {
  let sum = 0;
  let last = 0;
  for (let i = 0; i < weights.length; i++) {
    if (weights[i] === 0) continue;
    sum += weights[i]!;
    last = i;
    if (sum > target) return i;
  }
  return last;
}

/** Tokens of the nucleus, most probable first, lower ids first among equals. */
function nucleus(weights: Float64Array, sum: number, topP: number): number[] {
  // No token below this is in the nucleus: all of them together stay under 1 - topP. Saves sorting the vocabulary.
  const floor = ((1 - topP) * sum) / weights.length;
  const candidates: number[] = [];
  for (let i = 0; i < weights.length; i++) if (weights[i]! >= floor) candidates.push(i);
  candidates.sort((a, b) => weights[b]! - weights[a]! || a - b);
  let reached = 0;
  const size = candidates.findIndex(token => {
    reached += weights[token]!;
    return reached >= topP * sum;
  });
  return size < 0 ? candidates : candidates.slice(0, size + 1);
}

function sample(logits: Float32Array, temperature: number, topP: number, uniform: number): number {
  const { weights, sum } = weigh(logits, temperature);
  if (topP >= 1) return indexAt(weights, uniform * sum);
  const tokens = nucleus(weights, sum, topP);
  const kept = tokens.map(token => weights[token]!);
  const keptSum = kept.reduce((total, weight) => total + weight, 0);
  return tokens[indexAt(kept, uniform * keptSum)]!;
}

/** Logits with biases and penalties; the same array if there are none. Penalties count generated tokens only. */
function adjust(
  logits: Float32Array,
  sampling: Sampling,
  biases: readonly [token: number, bias: number][],
  counts: ReadonlyMap<number, number>,
): Float32Array {
  const penalised = counts.size > 0 && (sampling.frequencyPenalty !== 0 || sampling.presencePenalty !== 0);
  if (biases.length === 0 && !penalised) return logits;
  const adjusted = logits.slice();
  for (const [token, bias] of biases) adjusted[token]! += bias;
  if (penalised)
    for (const [token, count] of counts)
      adjusted[token]! -= count * sampling.frequencyPenalty + sampling.presencePenalty;
  return adjusted;
}

function restricted(logits: Float32Array, adjusted: Float32Array, restrict: Restrict | null): Float32Array {
  if (restrict === null) return adjusted;
  const own = adjusted === logits ? logits.slice() : adjusted;
  restrict(own);
  return own;
}

/** Masks disallowed tokens with -Infinity, in place. */
export type Restrict = (logits: Float32Array) => void;

const isGreedy = ({ temperature, topP }: Sampling): boolean => temperature < MIN_TEMPERATURE || topP === 0;

/** Whether sampling is the plain argmax of the model's logits. */
export const takesMostProbable = (sampling: Sampling): boolean =>
  isGreedy(sampling) &&
  sampling.frequencyPenalty === 0 &&
  sampling.presencePenalty === 0 &&
  Object.keys(sampling.logitBias).length === 0;

/** A sampler for one choice: logits [vocab] -> next token. Stateful: counts its tokens for penalties and the random stream. */
export function createSampler(
  sampling: Sampling,
  choice: number,
  restrict: Restrict | null = null,
): (logits: Float32Array) => number {
  const greedy = isGreedy(sampling);
  const biases = Object.entries(sampling.logitBias).map(([token, bias]): [number, number] => [
    Number(token),
    bias,
  ]);
  const counts = new Map<number, number>();
  let position = 0;
  return logits => {
    const adjusted = restricted(logits, adjust(logits, sampling, biases, counts), restrict);
    const token = greedy
      ? argMax(adjusted)
      : sample(adjusted, sampling.temperature, sampling.topP, uniformAt(sampling.seed, choice, position));
    counts.set(token, (counts.get(token) ?? 0) + 1);
    position += 1;
    return token;
  };
}
