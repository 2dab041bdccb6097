// The copy of weights that are stored in half precision or [in, out]: the same numbers, made once, made anew when the model changes.
import { cp, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openCpuEngine } from '../../src/engine/cpu.ts';
import { readAdapter } from '../../src/formats/peft.ts';
import { readTensor, writeSafetensors } from '../../src/formats/safetensors.ts';
import { openModel } from '../../src/models/registry.ts';
import { toLoaded } from '../../src/serving/adapters.ts';
import { Generator } from '../../src/serving/generator.ts';
import { copyForServing } from '../../src/serving/serving-weights.ts';
import { golden } from './serving.ts';

const VOCAB = 100_000; // 12.8 MB as float32
let folder: string;
let copies: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-widened-'));
  copies = join(folder, 'copies');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** llama-tiny with an embedding large enough to be worth a copy, all but one tensor in bf16. */
async function makeModel(seed: number): Promise<string> {
  const directory = join(folder, 'model');
  await cp(golden('llama-tiny'), directory, { recursive: true });
  const { weights, config } = await openModel(golden('llama-tiny'));
  await writeFile(
    join(directory, 'config.json'),
    JSON.stringify({ ...config, vocab_size: VOCAB, hidden_size: 32 }),
  );
  const tensors = Object.entries(weights).map(([name, stored]) => {
    const table = name === 'model.embed_tokens.weight';
    const data = table ? Float32Array.from({ length: VOCAB * 32 }, (_, i) => Math.sin(i + seed)) : stored;
    const dtype = name === 'model.norm.weight' ? ('F32' as const) : ('BF16' as const);
    return [name, { dtype, shape: table ? [VOCAB, 32] : stored.shape, data }] as const;
  });
  await writeSafetensors(join(directory, 'model.safetensors'), Object.fromEntries(tensors));
  return directory;
}

test('a small model is left as it is', async () => {
  const model = await openModel(golden('llama-f16'));
  expect(await copyForServing(model, copies)).toBe(model);
});

test('a large one has the same numbers in float32, in one file that is kept', async () => {
  const model = await openModel(await makeModel(1));
  const larger = { ...model, weights: withRepeats(model.weights) };
  const widened = await copyForServing(larger, copies);
  expect(Object.values(widened.weights).every(({ dtype }) => dtype === 'F32')).toBe(true);
  for (const name of ['model.embed_tokens.weight', 'model.layers.1.mlp.up_proj.weight', 'model.norm.weight'])
    expect(await readTensor(widened.weights[name]!)).toEqual(await readTensor(larger.weights[name]!));
  expect(widened.weights['model.norm.weight']).toBe(larger.weights['model.norm.weight']);
  const again = await copyForServing(larger, copies);
  expect(again.weights).toEqual(widened.weights);
  expect(await readdir(copies)).toHaveLength(1);
});

test('matrices that are stored [in, out] are turned, and answers stay the same', async () => {
  const model = await openModel(golden('gpt2'));
  const copied = await copyForServing(model, copies, 0);
  const layer = model.linearLayers[0]!;
  expect(layer.transposed).toBe(true);
  expect(copied.linearLayers.map(({ transposed }) => transposed)).not.toContain(true);
  const [stored, turned] = [model.weights[layer.weight]!, copied.weights[layer.weight]!];
  expect(turned.shape).toEqual(stored.shape.toReversed());
  const [before, after] = [await readTensor(stored), await readTensor(turned)];
  const [rows, columns] = stored.shape as [number, number];
  expect(after[(columns - 1) * rows + 1]).toBe(before[columns + columns - 1]);
  const engine = await openCpuEngine();
  const adapter = toLoaded('adapter', await readAdapter(join(golden('gpt2'), 'adapter'), model.linearLayers));
  const [plain, faster] = [new Generator(engine, model), new Generator(engine, copied)];
  const tokens = [5, 9, 90, 17, 60];
  for (const asked of [null, adapter]) {
    const score = { tokens, adapter: asked, topLogprobs: 1 };
    const [expected, got] = [await plain.score(score), await faster.score(score)];
    got.forEach((each, i) => {
      expect(each.logprob).toBeCloseTo(expected[i]!.logprob, 5);
    });
    expect(got).toHaveLength(tokens.length - 1);
  }
});

test('two at once end with one copy; a changed model gets another, unused copies go after a month', async () => {
  const model = await openModel(await makeModel(1));
  const larger = { ...model, weights: withRepeats(model.weights) };
  await Promise.all([copyForServing(larger, copies), copyForServing(larger, copies)]);
  const [old] = await readdir(copies);
  const longAgo = Date.now() / 1000 - 31 * 24 * 3600;
  await utimes(join(copies, old!), longAgo, longAgo);
  const changed = await openModel(await makeModel(2));
  await copyForServing({ ...changed, weights: withRepeats(changed.weights) }, copies);
  const names = await readdir(copies);
  expect(names).toHaveLength(1);
  expect(names).not.toContain(old);
});

/** The embedding under further names: enough bytes for a copy without a large file. */
function withRepeats<Stored>(weights: Readonly<Record<string, Stored>>): Record<string, Stored> {
  const table = weights['model.embed_tokens.weight']!;
  return { ...weights, 'table.2': table, 'table.3': table };
}
