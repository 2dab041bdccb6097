// Base weights in few bits, as texts are written from them: near what their codes stand for, alike with a cache and in a batch, and
// rearranged for the processor once, in a file that programs share.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadTokenizer } from '../../src/data/tokenizer.ts';
import { openEngine } from '../../src/engine/engine.ts';
import { onnxEngine } from '../../src/engine/onnx.ts';
import { PASSES } from '../../src/engine/passes.ts';
import type { Engine } from '../../src/engine/program.ts';
import type { PackedBytes } from '../../src/formats/onnx.ts';
import { initialLora } from '../../src/models/lora.ts';
import { quantizeWeights } from '../../src/models/quantized-weights.ts';
import {
  architectureOf,
  type GenerativeModel,
  type Model,
  openModel,
  requireGenerative,
} from '../../src/models/registry.ts';
import type { LoadedAdapter } from '../../src/serving/adapter-stack.ts';
import { toLoaded } from '../../src/serving/adapters.ts';
import { weightsInFewBits } from '../../src/serving/base-weights.ts';
import { stepInputs } from '../../src/serving/batch.ts';
import { Generator } from '../../src/serving/generator.ts';
import { openLoadedModels } from '../../src/serving/loaded-models.ts';
import { packForServing } from '../../src/serving/packed-weights.ts';
import { GREEDY } from '../../src/serving/sampling.ts';
import { type StepShape, stepProgram } from '../../src/serving/step.ts';
import { golden } from './serving.ts';

const TINY = join(import.meta.dirname, '../../models/anneal-tiny');
const folder = mkdtempSync(join(tmpdir(), 'anneal-few-bits-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ engine: 'onnx', device: 'cpu', threads: 2 });
});
const inFloats = onnxEngine({ provider: 'cpu', threads: 2, passes: PASSES, profile: null, integers: null });

const distance = (found: Float32Array, expected: Float32Array): number =>
  Math.hypot(...found.map((number, i) => number - expected[i]!)) / Math.hypot(...expected);

const LENGTH = 16;

async function logitsOn(engine: Engine, model: GenerativeModel): Promise<Float32Array> {
  const encoded = model.kind === 'encoder-decoder';
  const shape: StepShape = {
    ...{ rows: 1, length: LENGTH, cache: 0, stack: null, logits: 'all' },
    source: encoded ? { length: LENGTH, read: true } : null,
  };
  const tokens = Array.from({ length: LENGTH }, (_, i) => 3 + ((i * 7) % 50));
  const row = { tokens, source: encoded ? tokens.toReversed() : null, filled: 0, adapter: null };
  const executable = await engine.compile(stepProgram(model, shape));
  const { logits } = await executable.run(stepInputs(shape, [row], null));
  await executable.close();
  return logits as Float32Array;
}

function isGenerative(name: string): boolean {
  if (!existsSync(join(golden(name), 'golden.json'))) return false;
  const config = JSON.parse(readFileSync(join(golden(name), 'config.json'), 'utf8'));
  return architectureOf(config).architecture.kind !== 'encoder';
}

/** A product is 1% off in int8 and 0.01% in int16 (tests/engine/quantized.test.ts); those of one layer after the other add up. */
describe.each([
  ['int8', 0.12],
  ['int16', 6e-4],
] as const)('%s', (kind, most) => {
  test.each(readdirSync(golden('.')).filter(isGenerative))(
    'logits of %s are near those of what its codes stand for',
    async name => {
      const directory = join(folder, name);
      const model = requireGenerative(await quantizeWeights(await openModel(golden(name)), kind, directory));
      const expected = await logitsOn(inFloats, model);
      const found = await logitsOn(engine, model);
      expect(found).not.toEqual(expected);
      expect(distance(found, expected)).toBeLessThan(most);
    },
  );
});

const ask = (generator: Generator, prompt: number[], adapter: LoadedAdapter | null, maxTokens = 20) => {
  const tokens: number[] = [];
  const request = {
    prompt,
    adapter,
    maxTokens,
    sampling: GREEDY,
    choice: 0,
    stopTokens: [],
    topLogprobs: null,
  };
  const onToken = (token: number) => {
    tokens.push(token);
    return false;
  };
  return generator.generate({ ...request, onToken }).then(() => tokens);
};

/** Greedy without any cache: every token from a fresh reading of all before it. */
async function askUncached(generator: Generator, prompt: number[], adapter: LoadedAdapter | null) {
  const tokens = [...prompt];
  for (let i = 0; i < 20; i++) tokens.push(...(await ask(generator, tokens, adapter, 1)));
  return tokens.slice(prompt.length);
}

function strongAdapter(model: Model): LoadedAdapter {
  const layers = model.linearLayers.map(layer => {
    let last = 0;
    const { a } = initialLora(layer, 4, () => (1 + Math.sin(last++)) / 2);
    return [
      layer.name,
      { a, b: Float32Array.from({ length: layer.outFeatures * 4 }, (_, i) => Math.sin(i)) },
    ];
  });
  const meta = { alpha: 4, dropout: 0, baseModel: null };
  return toLoaded('strong', { rank: 4, scale: 0.3, ...meta, layers: Object.fromEntries(layers) });
}

test('answers from int8 are the same with a cache and without, alone and in a batch, with adapters and without', async () => {
  const model = await weightsInFewBits(await openModel(TINY), 'int8', { engine, cacheDirectory: folder });
  const generator = new Generator(engine, model);
  const tokenizer = await loadTokenizer(TINY);
  const adapter = strongAdapter(model);
  const texts = ['Once upon a time', 'What is the capital of France?', 'The little dog', 'Please tell me'];
  const asked = texts.flatMap(text =>
    [null, adapter].map(used => [tokenizer.encodePrompt(text), used] as const),
  );
  const together = await Promise.all(asked.map(([prompt, used]) => ask(generator, prompt, used)));
  for (const [i, [prompt, used]] of asked.entries()) {
    expect(await ask(generator, prompt, used)).toEqual(together[i]);
    expect(await askUncached(generator, prompt, used)).toEqual(together[i]);
  }
  expect(new Set(together.map(String)).size).toBeGreaterThan(texts.length);
  await generator.close();
});

test('codes are rearranged for the processor once, in a file that programs read instead of their own', async () => {
  const directory = join(folder, 'packed');
  const plain = requireGenerative(await quantizeWeights(await openModel(TINY), 'int8', folder));
  expect(await packForServing(plain, directory)).toBe(plain);
  const packed = requireGenerative(await packForServing(plain, directory, 0));
  const expected = await logitsOn(engine, plain);
  expect(await logitsOn(engine, packed)).toEqual(expected);
  const again = await packForServing(plain, directory, 0);
  expect(again.weights).toEqual(packed.weights);
  expect(await readdir(directory)).toHaveLength(1);

  const { quantized } = packed.weights['model.layers.0.mlp.down_proj.weight']!;
  if (!quantized || !('plain' in quantized)) throw new Error('down_proj is not in whole numbers');
  const { codes } = quantized.transposed;
  expect(codes.packed).toHaveLength(1);
  const [{ offset, sizeBytes }] = codes.packed as [PackedBytes];
  const file = await open(codes.file, 'r+');
  await file.write(new Uint8Array(sizeBytes), 0, sizeBytes, offset);
  await file.close();
  expect(distance(await logitsOn(engine, packed), expected)).toBeGreaterThan(0.01);
});

test('the generation process writes texts from few bits and makes vectors from the full weights', async () => {
  const seen: Record<string, unknown>[] = [];
  const vectorAndText = async (quantization: 'none' | 'int8') => {
    const models = openLoadedModels(engine, {
      ...{ modelBytes: 1e9, adapterBytes: 1e9, cacheBytes: 1e9, cacheDirectory: folder, quantization },
      notify: (_, details) => seen.push(details),
    });
    const found = await models.with(TINY, async ({ generator, embedder }) => ({
      vector: await (await embedder()).embed({ tokens: [20, 21, 22], adapter: null }),
      scores: await generator!.score({ tokens: [20, 21, 22], adapter: null, topLogprobs: 1 }),
    }));
    await models.close();
    return found;
  };
  const [full, few] = [await vectorAndText('none'), await vectorAndText('int8')];
  expect(few.vector).toEqual(full.vector);
  expect(few.scores).not.toEqual(full.scores);
  expect(few.scores[0]!.logprob).toBeCloseTo(full.scores[0]!.logprob, 0);
  expect(seen).toMatchObject([
    { model: TINY, quantization: 'int8' },
    { model: TINY, seconds: expect.any(Number) },
  ]);
});
