// Models that are held open: opened once, closed when they take too much, never under a request.
import { beforeAll, expect, test, vi } from 'vitest';
import { openEngine } from '../../src/engine/engine.ts';
import type { Engine } from '../../src/engine/program.ts';
import {
  type LoadedModelLimits,
  type LoadedModels,
  openLoadedModels,
} from '../../src/serving/loaded-models.ts';
import { GREEDY } from '../../src/serving/sampling.ts';
import { golden } from './serving.ts';

const LLAMA = golden('llama-tiny');
const GPT2 = golden('gpt2-tiny');
let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ engine: 'cpu', device: 'cpu', threads: 1 });
});

const limitsOf = (modelBytes: number): LoadedModelLimits => ({
  modelBytes,
  adapterBytes: 1e6,
  cacheBytes: 1e8,
  cacheDirectory: '/nonexistent',
});

const open = (modelBytes: number): LoadedModels => openLoadedModels(engine, limitsOf(modelBytes));

const generate = (models: LoadedModels, directory: string, maxTokens = 2) =>
  models.with(directory, ({ generator }) =>
    generator!.generate({
      prompt: [20, 21],
      adapter: null,
      maxTokens,
      sampling: GREEDY,
      choice: 0,
      stopTokens: [],
      topLogprobs: null,
      onToken: () => false,
    }),
  );

test('a model is opened once and stays while there is room', async () => {
  const models = open(1e9);
  const seen = await Promise.all([LLAMA, LLAMA].map(path => models.with(path, async model => model)));
  expect(seen[0]).toBe(seen[1]);
  await generate(models, GPT2);
  await generate(models, LLAMA);
  expect(models.loaded()).toEqual([GPT2, LLAMA]);
  await models.close();
  expect(models.loaded()).toEqual([]);
});

test('the least recently used is closed when there is no room, and opened anew when it is asked for', async () => {
  const models = open(1);
  const first = await models.with(LLAMA, async model => model);
  await generate(models, GPT2);
  expect(models.loaded()).toEqual([GPT2]);
  expect(await models.with(LLAMA, async model => model)).not.toBe(first);
  await models.close();
});

test('a model in use is not closed', async () => {
  const models = open(1);
  const long = generate(models, LLAMA, 40);
  await generate(models, GPT2);
  expect(models.loaded()).toContain(LLAMA);
  expect((await long).tokens).toBe(40);
  await models.close();
});

test('two that make room at once close a model once', async () => {
  const limits = limitsOf(1e9);
  const models = openLoadedModels(engine, limits);
  const [slow, idle] = await Promise.all([LLAMA, GPT2].map(path => models.with(path, async model => model)));
  const closing = Promise.withResolvers<void>();
  const mayClose = Promise.withResolvers<void>();
  slow!.close = () => {
    closing.resolve();
    return mayClose.promise;
  };
  const closed = vi.spyOn(idle!, 'close');
  limits.modelBytes = 1;
  const first = models.with(`${LLAMA}/.`, async () => undefined);
  await closing.promise;
  await models.with(`${GPT2}/.`, async () => undefined);
  mayClose.resolve();
  await first;
  expect(closed).toHaveBeenCalledTimes(1);
  await models.close();
});

test('a folder that is no model fails its request and is tried again', async () => {
  const models = open(1e9);
  await expect(generate(models, golden('none'))).rejects.toThrow(/config.json/);
  expect(models.loaded()).toEqual([]);
  await generate(models, LLAMA);
  await models.close();
});
