// Sampling: the distributions it draws from, reproducibility, and each parameter's effect.
import { describe, expect, test } from 'vitest';
import { largest, tokenLogprob } from '../../src/serving/logprobs.ts';
import { argMax, createSampler, GREEDY, type Sampling, uniformAt } from '../../src/serving/sampling.ts';

const logits = Float32Array.from([1, 3, 2, 0, -1].map(x => x * 0.7));
const sampled: Sampling = { ...GREEDY, temperature: 1, seed: 11 };

function softmax(values: Float32Array, temperature: number): number[] {
  const weights = [...values].map(value => Math.exp(value / temperature));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map(weight => weight / sum);
}

/** Shares of each token over many independent first draws. */
function shares(sampling: Sampling, draws = 20_000): number[] {
  const counts = new Array<number>(logits.length).fill(0);
  for (let choice = 0; choice < draws; choice++) counts[createSampler(sampling, choice)(logits)]! += 1;
  return counts.map(count => count / draws);
}

test('temperature 0 takes the most probable token, the first of equals', () => {
  expect(createSampler(GREEDY, 0)(logits)).toBe(1);
  expect(argMax(Float32Array.from([0, 5, 5]))).toBe(1);
  expect(createSampler({ ...sampled, topP: 0 }, 0)(logits)).toBe(1);
});

test.each([0.5, 1, 2])('temperature %d draws from the tempered softmax', temperature => {
  const expected = softmax(logits, temperature);
  shares({ ...sampled, temperature }).forEach((share, i) => {
    expect(Math.abs(share - expected[i]!)).toBeLessThan(0.012);
  });
});

test('a temperature near zero does not overflow', () => {
  expect(createSampler({ ...sampled, temperature: 1e-30 }, 0)(logits)).toBe(1);
});

describe('top_p', () => {
  test('keeps the smallest set that reaches it, renormalised', () => {
    const probabilities = softmax(logits, 1);
    const topP = probabilities[1]! + 0.01;
    const kept = probabilities[1]! + probabilities[2]!;
    const result = shares({ ...sampled, topP });
    expect(result[0]! + result[3]! + result[4]!).toBe(0);
    expect(Math.abs(result[1]! - probabilities[1]! / kept)).toBeLessThan(0.012);
  });

  test('of equal tokens keeps as many as it takes', () => {
    const equal = new Float32Array(10);
    const seen = new Set<number>();
    for (let choice = 0; choice < 500; choice++)
      seen.add(createSampler({ ...sampled, topP: 0.3 }, choice)(equal));
    expect([...seen].sort()).toEqual([0, 1, 2]);
  });

  test('of 1 keeps everything', () => {
    expect(Math.min(...shares(sampled))).toBeGreaterThan(0);
  });
});

test('the same seed gives the same tokens, another seed or choice others', () => {
  const flat = new Float32Array(1000);
  const draw = (seed: number, choice: number) => {
    const sampler = createSampler({ ...sampled, seed }, choice);
    return Array.from({ length: 8 }, () => sampler(flat));
  };
  expect(draw(5, 0)).toEqual(draw(5, 0));
  expect(draw(5, 0)).not.toEqual(draw(6, 0));
  expect(draw(5, 0)).not.toEqual(draw(5, 1));
});

test('the generator gives the same numbers for ever', () => {
  expect([uniformAt(0, 0, 0), uniformAt(42, 1, 7)]).toMatchInlineSnapshot(`
    [
      0.7047834028489888,
      0.8487878171727061,
    ]
  `);
});

test('logit_bias of 100 forces a token, -100 bans it', () => {
  expect(createSampler({ ...GREEDY, logitBias: { 4: 100 } }, 0)(logits)).toBe(4);
  expect(createSampler({ ...GREEDY, logitBias: { 1: -100 } }, 0)(logits)).toBe(2);
});

test('presence and frequency penalties move repeated tokens down, by once and by count', () => {
  const take = (sampling: Partial<Sampling>, count: number) => {
    const sampler = createSampler({ ...GREEDY, ...sampling }, 0);
    return Array.from({ length: count }, () => sampler(logits));
  };
  // logits 0.7, 2.1, 1.4, 0, -0.7
  expect(take({ presencePenalty: 1 }, 3)).toEqual([1, 2, 1]);
  expect(take({ frequencyPenalty: 1 }, 4)).toEqual([1, 2, 1, 0]);
  expect(take({ presencePenalty: -2 }, 3)).toEqual([1, 1, 1]);
});

test('the caller keeps its logits', () => {
  const before = logits.slice();
  createSampler({ ...sampled, logitBias: { 0: 5 }, topP: 0.5 }, 0)(logits);
  expect(logits).toEqual(before);
});

test('logprobs are those of the model, the best first', () => {
  const expected = softmax(logits, 1).map(Math.log);
  const { logprob, top } = tokenLogprob(logits, 3, 2);
  expect(logprob).toBeCloseTo(expected[3]!, 6);
  expect(top.map(each => each.token)).toEqual([1, 2]);
  expect(top[0]!.logprob).toBeCloseTo(expected[1]!, 6);
  expect(largest(Float32Array.from([1, 4, 4, 2, 9]), 4)).toEqual([4, 1, 2, 3]);
  expect(largest(logits, 0)).toEqual([]);
});
