import { expect, test } from 'vitest';
import { pricesOf, trainingItem, usageItems } from '../../src/metering/prices.ts';

const sum = {
  start: 0,
  projectId: null,
  apiKeyId: null,
  batch: null,
  requests: 1,
  inputTokens: 3_000_000,
  cachedTokens: 1_000_000,
  outputTokens: 500_000,
};

test('a fine-tuned model has its own price, else that of its kind, its base, all', () => {
  const own = { 'ft:a:o:s:1': { input: 1 }, 'ft:a': { input: 2 }, b: { input: 3 }, '*': { input: 4 } };
  const input = (model: string) => pricesOf(own, model).input;
  expect(['ft:a:o:s:1', 'ft:a:o:t:2', 'ft:b:o::3', 'b', 'a', 'constructor'].map(input)).toEqual([
    1, 2, 3, 3, 4, 4,
  ]);
  expect(pricesOf({}, 'a')).toEqual({});
});

test('tokens times prices, for a million', () => {
  const prices = { a: { input: 2, output: 8, training: 3 }, b: { input: 2, cached_input: 0.5 } };
  expect(usageItems(prices, { ...sum, model: 'a' })).toEqual([
    { name: 'a, input_tokens', tokens: 2_000_000, cost: 4 },
    { name: 'a, cached_input_tokens', tokens: 1_000_000, cost: 2 },
    { name: 'a, output_tokens', tokens: 500_000, cost: 4 },
  ]);
  expect(usageItems(prices, { ...sum, model: 'b' }).map(item => item.cost)).toEqual([4, 0.5, 0]);
  const training = { start: 0, projectId: null, model: 'a', jobs: 1, trainedTokens: 250_000 };
  expect(trainingItem(prices, training)).toEqual({ name: 'a, training_tokens', tokens: 250_000, cost: 0.75 });
});
