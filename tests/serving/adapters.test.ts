// Adapters of different ranks and targets side by side, and the memory they may take.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openEngine } from '../../src/engine/engine.ts';
import { writeAdapter } from '../../src/formats/peft.ts';
import { initialLora, selectLayers } from '../../src/models/lora.ts';
import { type Model, openModel } from '../../src/models/registry.ts';
import { type LoadedAdapter, stackAdapters } from '../../src/serving/adapter-stack.ts';
import { loadAdapter, openAdapterPool, toLoaded } from '../../src/serving/adapters.ts';
import { Generator } from '../../src/serving/generator.ts';
import { GREEDY } from '../../src/serving/sampling.ts';

const directory = join(import.meta.dirname, '../golden/llama-tiny');
let model: Model;
let folder: string;

beforeAll(async () => {
  model = await openModel(directory);
  folder = await mkdtemp(join(tmpdir(), 'anneal-adapters-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A PEFT folder with random values. */
async function makeAdapter(
  name: string,
  rank: number,
  targets: readonly string[] | 'all-linear',
): Promise<string> {
  let seed = [...name].reduce((sum, letter) => sum * 31 + letter.charCodeAt(0), 7) % 2147483647;
  const uniform = () => {
    seed = (seed * 48271) % 2147483647;
    return seed / 2147483647;
  };
  const layers = selectLayers(model.linearLayers, targets).map(layer => {
    const b = Float32Array.from({ length: layer.outFeatures * rank }, () => (uniform() - 0.5) * 2);
    return [layer.name, { a: initialLora(layer, rank, uniform).a, b }] as const;
  });
  const path = join(folder, name);
  await writeAdapter(path, {
    rank,
    alpha: 2 * rank,
    dropout: 0,
    baseModel: 'llama-tiny',
    linearLayers: model.linearLayers,
    layers: Object.fromEntries(layers),
  });
  return path;
}

/** The longer one is read with each row's adapter copied out of the stack. */
const PROMPTS = [[5, 80, 200, 17, 33], Array.from({ length: 20 }, (_, i) => 5 + 7 * i)];

test.each(
  (['cpu', 'onnx'] as const).flatMap(name =>
    PROMPTS.map(prompt => ({ name, prompt, tokens: prompt.length })),
  ),
)(
  'adapters of other ranks and targets in one batch give what each gives alone ($name, $tokens tokens)',
  async ({ name, prompt }) => {
    const engine = await openEngine({ engine: name, device: 'cpu', threads: 1 });
    const adapters = [
      null,
      await loadAdapter(model, 'queries', await makeAdapter('queries', 2, ['q_proj', 'v_proj'])),
      await loadAdapter(model, 'everything', await makeAdapter('everything', 16, 'all-linear')),
      await loadAdapter(model, 'mlp', await makeAdapter('mlp', 8, ['down_proj', 'up_proj'])),
    ];
    const generator = new Generator(engine, model);
    const answer = async (adapter: LoadedAdapter | null) => {
      const tokens: number[] = [];
      await generator.generate({
        prompt,
        adapter,
        maxTokens: 16,
        sampling: GREEDY,
        choice: 0,
        stopTokens: [],
        topLogprobs: null,
        onToken(token) {
          tokens.push(token);
          return false;
        },
      });
      return tokens;
    };
    const together = await Promise.all(adapters.map(answer));
    const alone = [];
    for (const adapter of adapters) alone.push(await answer(adapter));
    expect(together).toEqual(alone);
    // Each adapter is applied: no two of them, nor any and the base, say the same.
    expect(new Set(alone.map(String)).size).toBe(adapters.length);
    await generator.close();
  },
);

test('an adapter that the model has no place for is refused, not ignored', async () => {
  const path = await makeAdapter('wrong', 2, ['q_proj']);
  const other = await openModel(join(import.meta.dirname, '../golden/gpt2-tiny'));
  await expect(loadAdapter(other, 'wrong', path)).rejects.toThrow(/has no place for/);
  const config = JSON.parse(await readFile(join(path, 'adapter_config.json'), 'utf8'));
  await writeFile(join(path, 'adapter_config.json'), JSON.stringify({ ...config, use_dora: true }));
  await expect(loadAdapter(model, 'wrong', path)).rejects.toThrow(/use_dora/);
});

test('the least recently used adapters are given up when the limit is passed', async () => {
  const paths = new Map<string, string>();
  for (const name of ['one', 'two', 'three']) paths.set(name, await makeAdapter(name, 2, ['q_proj']));
  const size = (await loadAdapter(model, 'one', paths.get('one')!)).bytes;
  const pool = openAdapterPool(model, 2 * size);
  const get = (name: string) => pool.get(name, paths.get(name)!);
  const [one, two] = [await get('one'), await get('two')];
  expect(await get('one')).toBe(one);
  await get('three');
  expect(pool.loaded()).toEqual(['one', 'three']);
  expect(await get('two')).not.toBe(two);
  expect(pool.loaded()).toEqual(['three', 'two']);
});

test('concurrent calls read an adapter once, and a failed read is tried again', async () => {
  const pool = openAdapterPool(model, 1e9);
  const path = join(folder, 'late');
  await expect(pool.get('late', path)).rejects.toThrow();
  await makeAdapter('late', 2, ['q_proj']);
  const [first, second] = await Promise.all([pool.get('late', path), pool.get('late', path)]);
  expect(first).toBe(second);
});

test.each([Number.NaN, Number.POSITIVE_INFINITY])('an adapter that holds a %d is not loaded', value => {
  const a = Float32Array.of(1, 2, 3, 4);
  const layers = { 'model.layers.0.self_attn.q_proj': { a, b: Float32Array.of(1, value) } };
  const adapter = { rank: 1, alpha: 1, scale: 1, dropout: 0, baseModel: null, layers };
  expect(() => toLoaded('broken', adapter)).toThrow(
    'adapter broken: model.layers.0.self_attn.q_proj has values that are not finite',
  );
});

test('a stack is kept while it serves', async () => {
  const load = async (name: string) => loadAdapter(model, name, await makeAdapter(name, 2, ['q_proj']));
  const [one, two] = [await load('one'), await load('two')];
  const both = stackAdapters(model, null, new Set([one, two]))!;
  expect(stackAdapters(model, both, new Set([two]))).toBe(both);
  expect(stackAdapters(model, both, new Set())).toBeNull();
  const single = stackAdapters(model, null, new Set([one]))!;
  expect(single.shape.slots).toBe(1);
  expect(stackAdapters(model, single, new Set([one, two]))!.shape.slots).toBe(8);
});
