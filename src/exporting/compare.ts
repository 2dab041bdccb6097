// Whether two models say the same: log-probabilities of tokens that were drawn once and for all, each given those before it.
import type { Engine } from '../engine/program.ts';
import type { Model } from '../models/registry.ts';
import { loadAdapter } from '../serving/adapters.ts';
import { Generator } from '../serving/generator.ts';

const TOKENS = 64;
const SEED = 0x5eed;

/** Tokens from all over the vocabulary; a linear congruential generator is random enough for that. */
function drawTokens({ shape }: Model): Int32Array {
  let state = SEED;
  return Int32Array.from({ length: Math.min(TOKENS, shape.maxPositions) }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * shape.vocabSize);
  });
}

export interface Speaker {
  readonly model: Model;
  /** PEFT folder, or null. */
  readonly adapterDirectory: string | null;
}

async function logprobs(engine: Engine, { model, adapterDirectory }: Speaker): Promise<number[]> {
  const generator = new Generator(engine, model);
  try {
    const adapter = adapterDirectory ? await loadAdapter(model, 'exported', adapterDirectory) : null;
    const scores = await generator.score({ tokens: drawTokens(model), adapter, topLogprobs: 0 });
    return scores.map(({ logprob }) => logprob);
  } finally {
    await generator.close();
  }
}

/** The largest difference of a token's log-probability. */
export async function largestDifference(engine: Engine, one: Speaker, other: Speaker): Promise<number> {
  const [ours, theirs] = [await logprobs(engine, one), await logprobs(engine, other)];
  return ours.reduce((most, logprob, i) => Math.max(most, Math.abs(logprob - theirs[i]!)), 0);
}
