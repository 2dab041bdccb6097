// Exports of the tiny models, of every kind, with the adapters that PEFT wrote: what the files hold, that they say what the served model
// says, and, where ANNEAL_TEST_PYTHON names a Python with peft, that transformers and PEFT compute the same from them.
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { cp, readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gguf } from '@huggingface/gguf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openEngine } from '../../src/engine/engine.ts';
import type { Engine } from '../../src/engine/program.ts';
import { type Exported, exportModel } from '../../src/exporting/export.ts';
import type { ExportFormat } from '../../src/exporting/formats.ts';
import { addAdapter, mergedTensors } from '../../src/exporting/merge.ts';
import { PROBLEMS } from '../../src/formats/classifier-config.ts';
import { readGgufTensors } from '../../src/formats/gguf.ts';
import { readAdapter } from '../../src/formats/peft.ts';
import { readTensor } from '../../src/formats/safetensors.ts';
import { openModel } from '../../src/models/registry.ts';
import { loadAdapter } from '../../src/serving/adapters.ts';
import { openFineTuned } from '../../src/serving/classifier.ts';
import { Embedder } from '../../src/serving/embedder.ts';
import { changeJson } from '../models/folders.ts';
import { type Batch, runLogits } from '../models/golden.ts';
import {
  type HeadFixture,
  headFixtures,
  writeHeadAdapter,
  writeHeadModel,
} from '../serving/head-fixtures.ts';
import { usePython } from '../support/python.ts';

const golden = (name: string) => join(import.meta.dirname, '../golden', name);
const folder = mkdtempSync(join(tmpdir(), 'anneal-export-'));
afterAll(() => rmSync(folder, { recursive: true }));

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ engine: 'onnx', device: 'cpu', threads: 1 });
});

/** A golden model with a tokenizer beside it: those of the variants have none. */
async function withTokenizer(name: string): Promise<string> {
  const directory = join(folder, `model-${name}`);
  await cp(golden(name), directory, { recursive: true });
  for (const file of ['tokenizer.json', 'tokenizer_config.json'])
    await cp(join(golden('llama-tiny'), file), join(directory, file));
  return directory;
}

const exportOf = (
  format: ExportFormat,
  modelDirectory: string,
  adapterDirectory: string | null,
): Promise<Exported> =>
  exportModel(engine, {
    format,
    name: 'ft:tiny:acme::x',
    modelDirectory,
    adapterDirectory,
    workDirectory: mkdtempSync(join(folder, 'work-')),
  });

const exported = async (name: string, format: ExportFormat): Promise<Exported> =>
  exportOf(format, await withTokenizer(name), join(golden(name), 'adapter'));

function unpack({ file, filename }: Exported): string {
  const into = mkdtempSync(join(folder, 'tar-'));
  execFileSync('tar', ['-xf', file, '-C', into]);
  return join(into, filename.replace(/\.tar$/, ''));
}

const readConfig = (directory: string) => JSON.parse(readFileSync(join(directory, 'config.json'), 'utf8'));

const floatsIn = (directory: string): string[] =>
  readFileSync(join(directory, 'config.json'), 'utf8').match(/: [\d.e-]*[.e][\d.e-]*/g) ?? [];

/** By what a model is asked. */
const KINDS = [
  ['llama3', 'logprobs'],
  ['gpt2', 'logprobs'],
  ['t5', 'logprobs'],
  ['bart', 'logprobs'],
  ['marian', 'logprobs'],
  ['bert', 'vectors'],
  ['bert-model', 'vectors'],
  ['distilbert', 'vectors'],
  ['modernbert', 'vectors'],
] as const;

test.each(KINDS)('an adapter of %s is the folder that PEFT reads, in a tar', async (name, compared) => {
  const made = await exported(name, 'adapter');
  expect(made).toMatchObject({ filename: 'ft-tiny-acme-x-adapter.tar', compared, largestDifference: 0 });
  const { linearLayers } = await openModel(golden(name));
  expect(await readAdapter(unpack(made), linearLayers)).toEqual(
    await readAdapter(join(golden(name), 'adapter'), linearLayers),
  );
});

test.each(KINDS)('%s, merged, opens by itself and says the same', async (name, compared) => {
  const made = await exported(name, 'merged');
  expect(made).toMatchObject({ filename: 'ft-tiny-acme-x-merged.tar', compared });
  expect(made.largestDifference).toBeLessThan(1e-4);
  const inside = unpack(made);
  expect(await readdir(inside)).toEqual(
    expect.arrayContaining(['config.json', 'model.safetensors', 'tokenizer.json']),
  );
  const [model, merged] = [await openModel(golden(name)), await openModel(inside)];
  const adapter = await readAdapter(join(golden(name), 'adapter'), model.linearLayers);
  for (const [tensor, { data }] of Object.entries(mergedTensors(model, adapter)))
    expect(await readTensor(merged.weights[tensor]!), tensor).toEqual(await data());
  expect(Object.keys(merged.leftOut)).toEqual(Object.keys(model.leftOut));
});

test('what says how vectors are made goes with a merged model', async () => {
  const made = await exportOf('merged', golden('bert-tiny'), null);
  expect(made).toMatchObject({ compared: 'vectors', largestDifference: 0 });
  expect(await readdir(unpack(made), { recursive: true })).toEqual(
    expect.arrayContaining(['modules.json', '1_Pooling/config.json', 'tokenizer.json']),
  );
});

describe('a head for classes or numbers', () => {
  const foldersOf = async (fixture: HeadFixture) =>
    fixture.kind === 'lora'
      ? {
          modelDirectory: golden(fixture.model),
          adapterDirectory: (await writeHeadAdapter(fixture)).directory,
        }
      : { modelDirectory: await writeHeadModel(fixture), adapterDirectory: null };

  test.each(headFixtures)('$name, merged, gives the outputs of transformers', async fixture => {
    const { modelDirectory, adapterDirectory } = await foldersOf(fixture);
    const made = await exportOf('merged', modelDirectory, adapterDirectory);
    expect(made.compared).toBe('outputs');
    const inside = unpack(made);
    // transformers takes 0.0 for a share, and not 0.
    expect(floatsIn(inside)).toEqual(floatsIn(modelDirectory));
    const labels = Object.values(readConfig(inside).id2label);
    expect(labels).toEqual(fixture.labels);
    expect(readConfig(inside)).toMatchObject({
      architectures: [expect.stringMatching(/ForSequenceClassification$/)],
      problem_type: PROBLEMS[fixture.problem],
    });
    const { classifier, head } = await openFineTuned(engine, {
      modelDirectory: inside,
      adapterDirectory: null,
    });
    const outputs = await Promise.all(
      fixture.examples.map(({ tokens }) => classifier.outputs({ tokens, head })),
    );
    await classifier.close();
    for (const [i, own] of outputs.entries())
      for (const [j, value] of own.entries())
        expect(Math.abs(value - fixture.logits[i]![j]!), `text ${i}`).toBeLessThan(1e-4);
  });

  test('goes with an adapter as modules_to_save', async () => {
    const fixture = headFixtures.find(({ name }) => name === 'bert-single')!;
    const { modelDirectory, adapterDirectory } = await foldersOf(fixture);
    const made = await exportOf('adapter', modelDirectory, adapterDirectory);
    expect(made).toMatchObject({ compared: 'outputs', largestDifference: 0 });
    const inside = unpack(made);
    const config = JSON.parse(readFileSync(join(inside, 'adapter_config.json'), 'utf8'));
    expect(config).toMatchObject({ task_type: 'SEQ_CLS', modules_to_save: ['pooler', 'classifier'] });
    expect(await readdir(inside)).toContain('classifier_config.json');
  });

  test('is nothing that gguf holds', async () => {
    const fixture = headFixtures.find(({ name }) => name === 'llama-single')!;
    const { adapterDirectory } = await foldersOf(fixture);
    await expect(exportOf('gguf', await withTokenizer('llama3'), adapterDirectory)).rejects.toThrow(
      /not for LlamaForSequenceClassification/,
    );
  });

  const python = process.env.ANNEAL_TEST_PYTHON;
  test.skipIf(!python)(
    'and every other kind are computed alike by transformers and PEFT',
    async () => {
      const heads = await Promise.all(
        headFixtures.map(async fixture => {
          const { modelDirectory, adapterDirectory } = await foldersOf(fixture);
          const merged = unpack(await exportOf('merged', modelDirectory, adapterDirectory));
          const tokens = fixture.examples.map(each => each.tokens);
          const asked = { as: 'sequence', tokens, outputs: fixture.labels.length };
          return [
            {
              name: `${fixture.name} merged`,
              expected: fixture.logits,
              ...asked,
              model: merged,
              adapter: null,
            },
            ...(adapterDirectory
              ? [
                  {
                    name: `${fixture.name} adapter`,
                    expected: fixture.logits,
                    ...asked,
                    model: modelDirectory,
                    adapter: unpack(await exportOf('adapter', modelDirectory, adapterDirectory)),
                  },
                ]
              : []),
          ];
        }),
      );
      const vectors = await Promise.all(
        ['bert', 'bert-model', 'distilbert', 'modernbert'].map(async name => {
          const tokens = [
            [5, 9, 23, 41, 8, 77, 12],
            [60, 31, 7],
          ];
          const expected = await vectorsOf(name, tokens);
          const asked = { name, expected, as: 'base', tokens, outputs: null };
          return [
            { ...asked, model: unpack(await exported(name, 'merged')), adapter: null },
            ...(readConfig(golden(name)).architectures[0].endsWith('Model')
              ? [{ ...asked, model: golden(name), adapter: unpack(await exported(name, 'adapter')) }]
              : []),
          ];
        }),
      );
      const generative = await Promise.all(
        ['llama3', 'gpt2', 't5', 'bart', 'marian'].map(async name => {
          const batch = textBatch(name, [7, 41, 12, 88, 30, 9]);
          const model = await openModel(golden(name));
          const adapter = await readAdapter(join(golden(name), 'adapter'), model.linearLayers);
          const expected = [[...(await runLogits(engine, model, batch, adapter))]];
          const as = batch.sourceTokens ? 'seq2seq' : 'causal';
          const given = { as, tokens: batch.tokens, sources: batch.sourceTokens, outputs: null };
          return { name, expected, ...given, model: unpack(await exported(name, 'merged')), adapter: null };
        }),
      );
      const cases = [...heads, ...vectors, ...generative].flat();
      const { stdout } = await promisify(execFile)(
        python!,
        [golden('exported.py'), JSON.stringify(cases.map(({ expected: _, ...given }) => given))],
        { maxBuffer: 2 ** 26 },
      );
      const answers = JSON.parse(stdout) as { numbers: number[][] }[];
      cases.forEach(({ name, adapter, expected }, i) => {
        expected.flat().forEach((value, j) => {
          const what = `${name} ${adapter ? 'adapter' : 'merged'}`;
          expect(Math.abs(value - answers[i]!.numbers.flat()[j]!), what).toBeLessThan(1e-4);
        });
      });
    },
    300_000,
  );
});

/** One text; of an encoder-decoder an answer to the same tokens read backwards. */
function textBatch(name: string, tokens: number[]): Batch {
  const row = (of: number[]) => ({
    tokens: [of],
    positions: [of.map((_, i) => i)],
    segments: [of.map(() => 0)],
    targets: [of.map(() => -1)],
  });
  if (!readConfig(golden(name)).is_encoder_decoder) return row(tokens);
  const source = row(tokens.toReversed());
  return {
    ...row(tokens),
    sourceTokens: source.tokens,
    sourcePositions: source.positions,
    sourceSegments: source.segments,
  };
}

/** Of texts by their tokens, as the served model makes them: the mean of the states, of length 1. */
async function vectorsOf(name: string, texts: readonly number[][]): Promise<number[][]> {
  const model = await openModel(golden(name));
  const embedder = new Embedder(engine, model, { mode: 'mean', normalize: true, maxTokens: 64 });
  const adapter = await loadAdapter(model, name, join(golden(name), 'adapter'));
  const vectors = await Promise.all(texts.map(tokens => embedder.embed({ tokens, adapter })));
  await embedder.close();
  return vectors.map(vector => [...vector]);
}

test('weight + scale * b a, by hand', () => {
  const layer = { inFeatures: 2, outFeatures: 3 };
  const pair = { a: Float32Array.of(1, 2), b: Float32Array.of(10, 20, 30) };
  const plain = addAdapter({ ...layer, transposed: false } as never, new Float32Array(6).fill(1), pair, {
    rank: 1,
    scale: 0.5,
  });
  expect([...plain]).toEqual([6, 11, 11, 21, 16, 31]);
  const turned = addAdapter({ ...layer, transposed: true } as never, new Float32Array(6).fill(1), pair, {
    rank: 1,
    scale: 0.5,
  });
  expect([...turned]).toEqual([6, 11, 16, 11, 21, 31]);
});

describe('gguf', () => {
  /** llama3: scaled positions; qwen2: biases; qwen3: norms of queries and keys; mixtral: experts; the last two: half precision. */
  test.each([
    ...['llama2', 'llama3', 'mistral', 'qwen2', 'qwen3', 'mixtral', 'phi3', 'phi3-longrope', 'cohere'],
    ...['gpt2', 'gpt-neox', 'falcon-7b', 'falcon-40b', 'falcon-11b', 'llama-bf16-sharded', 'llama-f16'],
  ])('of %s, read back, says the same', async name => {
    const { filename, compared, largestDifference } = await exported(name, 'gguf');
    expect({ filename, compared }).toEqual({ filename: 'ft-tiny-acme-x.gguf', compared: 'logprobs' });
    expect(largestDifference).toBeLessThan(/bf16|f16/.test(name) ? 0.1 : 1e-4);
  });

  test.each([
    ['gemma2', { query_pre_attn_scalar: 12 }],
    ['gemma3', { query_pre_attn_scalar: 12, sliding_window_pattern: 6 }],
  ])('of %s, whose norms are stored with one added', async (name, config) => {
    const directory = await withTokenizer(name);
    await changeJson(join(directory, 'config.json'), config);
    const { largestDifference } = await exportOf('gguf', directory, join(golden(name), 'adapter'));
    expect(largestDifference).toBeLessThan(1e-4);
  });

  test('is read by the reader of Hugging Face', async () => {
    const { file } = await exported('llama3', 'gguf');
    const { metadata, tensorInfos } = await gguf(file, { allowLocalFile: true });
    expect(metadata).toMatchObject({
      'general.architecture': 'llama',
      'llama.attention.head_count': 4,
      'tokenizer.ggml.model': 'gpt2',
      'tokenizer.ggml.pre': 'gpt-2',
    });
    expect(tensorInfos.map(({ name }) => name)).toEqual(
      expect.arrayContaining([
        'token_embd.weight',
        'blk.1.ffn_down.weight',
        'output_norm.weight',
        'rope_freqs.weight',
      ]),
    );
  });

  const python = usePython(['gguf==0.19.0']);
  test.skipIf(!python)('is read by Python’s gguf, number for number', async () => {
    const { file } = await exported('llama3', 'gguf');
    const script = `
import json, sys
from gguf import GGUFReader
reader = GGUFReader(sys.argv[1])
tensors = {t.name: {"shape": [int(n) for n in reversed(t.shape)], "sum": float(t.data.astype("float64").sum())} for t in reader.tensors}
field = lambda name: reader.fields[name].contents()
print(json.dumps({"tensors": tensors, "tokens": field("tokenizer.ggml.tokens")[:5], "eps": field("llama.attention.layer_norm_rms_epsilon"), "eos": field("tokenizer.ggml.eos_token_id")}))
`;
    const seen = JSON.parse(await python!.run(script, [file]));
    const stored = await readGgufTensors(file);
    expect(Object.keys(seen.tensors).sort()).toEqual(Object.keys(stored).sort());
    for (const [name, tensor] of Object.entries(stored)) {
      const sum = (await readTensor(tensor)).reduce((total, value) => total + value, 0);
      expect(seen.tensors[name].shape, name).toEqual(tensor.shape);
      expect(seen.tensors[name].sum, name).toBeCloseTo(sum, 3);
    }
    expect(seen.tokens[0]).toBe('<|endoftext|>');
    expect(seen.eos).toBe(2);
  });
});
