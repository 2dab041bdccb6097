// Exports of the Llama fixtures with the adapters that PEFT wrote: what the files hold, and that a wrong one is not let out.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { cp, mkdir, readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gguf } from '@huggingface/gguf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openEngine } from '../../src/engine/engine.ts';
import type { Engine } from '../../src/engine/program.ts';
import { type Exported, type ExportFormat, exportModel } from '../../src/exporting/export.ts';
import { ggufName, reorderHeads } from '../../src/exporting/gguf-model.ts';
import { addAdapter, mergedTensors } from '../../src/exporting/merge.ts';
import { writeMeaning } from '../../src/formats/classifier-config.ts';
import { readGgufTensors } from '../../src/formats/gguf.ts';
import { readAdapter } from '../../src/formats/peft.ts';
import { readTensor } from '../../src/formats/safetensors.ts';
import { openModel } from '../../src/models/registry.ts';
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

async function exported(name: string, format: ExportFormat): Promise<Exported> {
  const modelDirectory = await withTokenizer(name);
  const workDirectory = mkdtempSync(join(folder, 'work-'));
  const adapterDirectory = join(golden(name), 'adapter');
  return exportModel(engine, {
    format,
    name: `ft:${name}:acme::x`,
    modelDirectory,
    adapterDirectory,
    workDirectory,
  });
}

/** Of a golden model as it is, with an adapter or none. */
const exportOf = (name: string, adapterDirectory: string | null): Promise<Exported> =>
  exportModel(engine, {
    format: 'merged',
    name,
    modelDirectory: golden(name),
    adapterDirectory,
    workDirectory: mkdtempSync(join(folder, 'work-')),
  });

function unpack(file: string): string {
  const into = mkdtempSync(join(folder, 'tar-'));
  execFileSync('tar', ['-xf', file, '-C', into]);
  return into;
}

test('an adapter is the folder that PEFT reads, in a tar', async () => {
  const { file, filename, largestDifference } = await exported('llama3', 'adapter');
  expect(filename).toBe('ft-llama3-acme-x-adapter.tar');
  expect(largestDifference).toBe(0);
  const inside = join(unpack(file), 'ft-llama3-acme-x-adapter');
  const { linearLayers } = await openModel(golden('llama3'));
  expect(await readAdapter(inside, linearLayers)).toEqual(
    await readAdapter(join(golden('llama3'), 'adapter'), linearLayers),
  );
});

test.each<[string, () => Promise<unknown>]>([
  ['an adapter that classifies', () => exportOf('llama-tiny', folder)],
  ['an encoder', () => exportOf('bert-tiny', null)],
  ['an encoder-decoder', () => exportOf('t5-tiny', null)],
])('%s is refused by what it is, without a path of the server', async (_, made) => {
  const outputs = { problem: 'single', labels: ['billing', 'returns'], reads: 'input' } as const;
  await writeMeaning(folder, outputs);
  await expect(made()).rejects.toThrow(
    /^exports are of causal models that write text: not of classifiers, encoders or encoder-decoders$/,
  );
});

test('a merged model opens by itself and says the same', async () => {
  const { file, largestDifference } = await exported('llama3', 'merged');
  expect(largestDifference).toBeLessThan(1e-4);
  const inside = join(unpack(file), 'ft-llama3-acme-x-merged');
  expect(await readdir(inside)).toEqual(
    expect.arrayContaining(['config.json', 'model.safetensors', 'tokenizer.json']),
  );
  const [model, merged] = [await openModel(golden('llama3')), await openModel(inside)];
  const adapter = await readAdapter(join(golden('llama3'), 'adapter'), model.linearLayers);
  for (const [name, tensor] of Object.entries(mergedTensors(model, adapter)))
    expect(await readTensor(merged.weights[name]!), name).toEqual(await tensor.data());
});

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
  /** llama2: plain; llama3: scaled positions; qwen2: biases; qwen3: norms of queries and keys; half precision. */
  test.each(['llama2', 'llama3', 'mistral', 'qwen2', 'qwen3', 'llama-bf16-sharded', 'llama-f16'])(
    'of %s says the same',
    async name => {
      const { filename, largestDifference } = await exported(name, 'gguf');
      expect(filename).toBe(`ft-${name}-acme-x.gguf`);
      expect(largestDifference).toBeLessThan(/bf16|f16/.test(name) ? 0.1 : 1e-4);
    },
  );

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

  test('heads are reordered as llama.cpp turns them, and back', () => {
    const rows = Float32Array.from({ length: 8 }, (_, i) => i);
    expect([...reorderHeads(rows, 2, 8)]).toEqual([0, 2, 1, 3, 4, 6, 5, 7]);
    expect([...reorderHeads(reorderHeads(rows, 2, 8), 2, 8, true)]).toEqual([...rows]);
  });

  test('names', () => {
    expect(ggufName('model.layers.12.self_attn.q_proj.bias')).toBe('blk.12.attn_q.bias');
    expect(() => ggufName('model.layers.0.other.weight')).toThrow('no name');
  });

  test('of another architecture is refused with those that are taken', async () => {
    await mkdir(join(folder, 'gpt2'), { recursive: true });
    const spec = {
      format: 'gguf',
      name: 'x',
      modelDirectory: golden('gpt2-tiny'),
      adapterDirectory: null,
    } as const;
    await expect(exportModel(engine, { ...spec, workDirectory: join(folder, 'gpt2') })).rejects.toThrow(
      /gguf export takes LlamaForCausalLM.*, not GPT2LMHeadModel/,
    );
  });
});
