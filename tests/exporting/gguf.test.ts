// GGUF files of the tiny models: the same tensors, settings and vocabulary as llama.cpp's own converter makes (tests/golden/gguf-tensors.json),
// and what llama.cpp would compute otherwise is refused. That llama.cpp computes the same is written in docs/models.md.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { cp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, describe, expect, test } from 'vitest';
import { loadTokenizer } from '../../src/data/tokenizer.ts';
import { openEngine } from '../../src/engine/engine.ts';
import { type ExportedFiles, refusalOf } from '../../src/exporting/formats.ts';
import { pairRows, separateGroups, transposed } from '../../src/exporting/gguf-changes.ts';
import { ggufMetadata, toGgufFile } from '../../src/exporting/gguf-model.ts';
import { readTokenizerFiles, type TokenizerFiles } from '../../src/exporting/gguf-vocabulary.ts';
import { mergedTensors } from '../../src/exporting/merge.ts';
import { type GgufValue, readGgufTensors, writeGguf } from '../../src/formats/gguf.ts';
import { readAdapter } from '../../src/formats/peft.ts';
import { readTensor } from '../../src/formats/safetensors.ts';
import { readText } from '../../src/models/json-file.ts';
import { describeModel, openModel } from '../../src/models/registry.ts';
import { changeJson, copyGolden, temporaryFolder } from '../models/folders.ts';
import { goldenDirectory, runLogits } from '../models/golden.ts';

interface Converted {
  /** What was changed in config.json. */
  config: Record<string, unknown>;
  metadata: Record<string, unknown>;
  /** Of computed ones the numbers, of others their hash. */
  tensors: Record<string, { shape: number[]; sha256?: string; values?: number[] }>;
}

const converted = JSON.parse(readFileSync(join(goldenDirectory('.'), 'gguf-tensors.json'), 'utf8')) as Record<
  string,
  Converted
>;
const WHOLE: Record<string, string> = {
  'llama-tiny': goldenDirectory('llama-tiny'),
  'gpt2-tiny': goldenDirectory('gpt2-tiny'),
  'anneal-tiny': join(import.meta.dirname, '../../models/anneal-tiny'),
};
const variants = Object.keys(converted).filter(name => !WHOLE[name]);

const folder = mkdtempSync(join(tmpdir(), 'anneal-gguf-'));
afterAll(() => rmSync(folder, { recursive: true }));

const sha256 = (bytes: string | Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

const tokenizerIn = (directory: string): Promise<TokenizerFiles> =>
  readTokenizerFiles(name => readText(join(directory, name)));
const tokenizer = await tokenizerIn(goldenDirectory('llama-tiny'));

/** As the fixture has them: long lists by their hash. */
function plain(value: GgufValue): unknown {
  const [only] = Object.values(value) as unknown[];
  if (!Array.isArray(only)) return only;
  return { count: only.length, sha256: sha256(only.join('\n')) };
}

/** Left out of the comparison, each for its reason. */
const OWN = [
  // The converter writes four times the width, whatever the model has.
  'falcon.feed_forward_length',
  'gpt2.feed_forward_length',
  // Between the two texts of a pair, which are nowhere made.
  'tokenizer.ggml.add_sep_token',
  // The converter writes 2048, whatever config.json says.
  'falcon.context_length',
];

/** Names and values of the converter's that ours has otherwise; f32 to six digits. */
function differences(
  theirs: Record<string, unknown>,
  ours: Record<string, GgufValue>,
): Record<string, [unknown, unknown]> {
  const same = (a: unknown, b: unknown): boolean =>
    typeof a === 'number' && typeof b === 'number'
      ? Math.abs(a - b) <= 1e-6 * Math.abs(a)
      : JSON.stringify(a) === JSON.stringify(b);
  const pairs = Object.entries(theirs).map(
    ([name, value]) => [name, value, ours[name] && plain(ours[name])] as const,
  );
  const other = pairs.filter(([name, a, b]) => !OWN.includes(name) && !same(a, b));
  return Object.fromEntries(other.map(([name, a, b]) => [name, [a, b]]));
}

describe('as the converter of llama.cpp', () => {
  test.each(variants)('tensors and settings of %s', async name => {
    const directory = await copyGolden(name);
    const { config, metadata, tensors } = converted[name]!;
    await changeJson(join(directory, 'config.json'), config);
    const model = await openModel(directory);
    const file = toGgufFile(model, mergedTensors(model, null), tokenizer, name);
    const path = join(folder, `${name}.gguf`);
    await writeGguf(path, file);
    const seen: Converted['tensors'] = {};
    for (const [tensor, stored] of Object.entries(await readGgufTensors(path))) {
      const values = await readTensor(stored);
      const { values: computed } = tensors[tensor] ?? {};
      const held = computed
        ? { values: computed.map((_, i) => expect.closeTo(values[i]!, 5) as unknown as number) }
        : { sha256: sha256(new Uint8Array(values.buffer)) };
      seen[tensor] = { shape: [...stored.shape], ...held };
    }
    expect(tensors).toEqual(seen);
    expect(differences(metadata, file.metadata)).toEqual({});
  });

  test.each(Object.keys(WHOLE))('the vocabulary of %s', async name => {
    const directory = WHOLE[name]!;
    const { config } = await openModel(directory);
    const { metadata } = converted[name]!;
    expect(differences(metadata, ggufMetadata(describeModel(config), await tokenizerIn(directory)))).toEqual(
      {},
    );
  });
});

const files = (directory: string, change: Record<string, unknown> = {}): ExportedFiles => ({
  adapter: null,
  async model(name) {
    const text = await readText(join(directory, name));
    return name === 'config.json' ? JSON.stringify({ ...JSON.parse(text!), ...change }) : text;
  },
});

const LLAMA_3 = {
  rope_type: 'llama3',
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 64,
};

test.each([
  ['bert-tiny', {}, 'gguf is written for LlamaForCausalLM, '],
  ['t5-tiny', {}, 'not for T5ForConditionalGeneration'],
  ['llama2', {}, 'gguf needs a tokenizer.json'],
  ['phi3', { hidden_act: 'gelu' }, 'llama.cpp does not compute hidden_act "gelu"'],
  [
    'llama-tiny',
    { architectures: ['LlamaForSequenceClassification'] },
    'not for LlamaForSequenceClassification',
  ],
  ['gpt2-tiny', { scale_attn_by_inverse_layer_idx: true }, 'scale_attn_by_inverse_layer_idx true'],
  ['gpt-neox-serial', {}, 'attention_bias false for gpt_neox'],
  ['falcon-serial', {}, 'bias true for falcon'],
  ['falcon-serial', { bias: false }, 'parallel_attn false for falcon'],
  ['cohere-normed', {}, 'an attention_bias for cohere'],
  ['cohere-normed', { attention_bias: false }, 'use_qk_norm true for cohere with 2 layers'],
  ['gemma2', {}, 'query_pre_attn_scalar 20 but 12 for this model'],
  ['gemma3', { query_pre_attn_scalar: 12 }, 'layer_types but for every 6th layer that sees everything'],
  [
    'llama-tiny',
    { architectures: ['Qwen2ForCausalLM'], model_type: 'qwen2', rope_scaling: LLAMA_3 },
    'rotary positions of type "llama3" for qwen2',
  ],
])('%s with %j is refused: %s %s', async (name, change, message) => {
  expect(await refusalOf('gguf', files(goldenDirectory(name), change))).toContain(message);
});

test('a tokenizer that llama.cpp takes apart otherwise is refused', async () => {
  const directory = await copyGolden('llama-tiny');
  const change = (tokenizer: Record<string, unknown>) =>
    changeJson(join(directory, 'tokenizer.json'), tokenizer);
  const refusal = () => refusalOf('gguf', files(directory));
  expect(await refusal()).toBe(null);
  await change({ pre_tokenizer: { type: 'Whitespace' } });
  expect(await refusal()).toBe('the tokenizer splits texts in a way that the gguf export does not know');
  await change({ pre_tokenizer: { type: 'ByteLevel' }, normalizer: { type: 'Lowercase' } });
  expect(await refusal()).toBe(
    'the tokenizer changes texts (Lowercase) in a way that the gguf export does not know',
  );
  await change({ model: { type: 'Unigram' } });
  expect(await refusal()).toBe('the gguf export takes BPE tokenizers, not Unigram');
});

test('a name that llama.cpp takes for another model’s is left out', async () => {
  const model = await openModel(goldenDirectory('llama-tiny'));
  const named = (name: string) => toGgufFile(model, mergedTensors(model, null), tokenizer, name).metadata;
  expect(named('ft:tiny:acme::x')['general.name']).toEqual({ string: 'ft:tiny:acme::x' });
  expect(named('ft:tiny:acme:like-phi3:x')).not.toHaveProperty(['general.name']);
});

test('rows and axes, by hand', () => {
  const rows = Float32Array.from({ length: 8 }, (_, i) => i);
  expect([...pairRows(2).there(rows, [8])]).toEqual([0, 2, 1, 3, 4, 6, 5, 7]);
  // Two key heads of one row, each with two query heads: q q k v q q k v.
  expect([...separateGroups(4, 2).there(rows, [8])]).toEqual([0, 1, 4, 5, 2, 6, 3, 7]);
  expect([...transposed.there(rows, [2, 4])]).toEqual([0, 4, 1, 5, 2, 6, 3, 7]);
  for (const change of [pairRows(2), separateGroups(4, 2)])
    expect([...change.back(change.there(rows, [8]), [8])]).toEqual([...rows]);
  expect([...transposed.back(transposed.there(rows, [2, 4]), [2, 4])]).toEqual([...rows]);
});

const llamaCpp = process.env.ANNEAL_TEST_LLAMA_CPP;
describe.skipIf(!llamaCpp)('in llama.cpp', () => {
  const ask = async <Answer>(cases: unknown[]): Promise<Answer[]> => {
    const script = goldenDirectory('gguf_logits.py');
    const { stdout } = await promisify(execFile)(llamaCpp!, [script, JSON.stringify(cases)], {
      maxBuffer: 2 ** 26,
    });
    return JSON.parse(stdout);
  };

  test('the logits of models with adapters are ours', async () => {
    const engine = await openEngine({ engine: 'onnx', device: 'cpu', threads: 1 });
    const tokens = [3, 41, 12, 88, 30];
    const row = [tokens.map(() => 0)];
    const cases = await Promise.all(
      variants.map(async name => {
        const directory = await copyGolden(name);
        await changeJson(join(directory, 'config.json'), converted[name]!.config);
        const model = await openModel(directory);
        const adapter = await readAdapter(join(directory, 'adapter'), model.linearLayers);
        const file = join(folder, `${name}-tuned.gguf`);
        await writeGguf(file, toGgufFile(model, mergedTensors(model, adapter), tokenizer, 'tuned'));
        const batch = { tokens: [tokens], positions: [[0, 1, 2, 3, 4]], segments: row, targets: row };
        const [own, plain] = [
          await runLogits(engine, model, batch, adapter),
          await runLogits(engine, model, batch),
        ];
        return { name, file, own, plain };
      }),
    );
    const answers = await ask<number[][]>(cases.map(({ file }) => ({ file, tokens })));
    for (const [i, { name, own, plain }] of cases.entries()) {
      const theirs = answers[i]!.flat();
      const furthest = (from: ArrayLike<number>): number =>
        theirs.reduce((most, value, j) => Math.max(most, Math.abs(value - from[j]!)), 0);
      // It computes GELU from a table of half precision.
      expect(furthest(own), name).toBeLessThan(/gpt|falcon|gemma/.test(name) ? 5e-3 : 1e-5);
      expect(furthest(plain), name).toBeGreaterThan(0.05);
    }
  }, 120_000);

  /** None begins with a space: before it, Metaspace of Hugging Face puts none, and llama.cpp one, as SentencePiece does. */
  const TEXTS = [
    'The quick brown fox isn’t here; it’ll come at 10:45 on 2026-01-31.',
    'two  spaces,\ttabs\n\nand lines\n   indented',
    'Übergröße naïve café — 北京 日本語 한국어 русский 🦙🚀',
    '12345678 3.14159 1,000,000 x=3;y[7]++ $99 <b>&amp;</b> #tag @me',
    "I'm sure they've said we'd go, didn't you?",
  ];
  const FIXTURES = join(import.meta.dirname, '../data');
  const BYTE_LEVEL = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const SPLITTERS = {
    'command-r': [{ type: 'Digits', individual_digits: true }, BYTE_LEVEL],
    falcon: [
      { type: 'Punctuation', behavior: 'Contiguous' },
      BYTE_LEVEL,
      { type: 'Digits', individual_digits: false },
      { type: 'Split', pattern: { Regex: '[0-9][0-9][0-9]' }, behavior: 'Isolated', invert: false },
    ],
  };

  /** A tokenizer of the fixtures that splits texts otherwise. */
  async function splitting(pretokenizers: readonly object[]): Promise<string> {
    const directory = await temporaryFolder();
    await cp(join(FIXTURES, 'fixtures/gpt2'), directory, { recursive: true });
    const changed = { pre_tokenizer: { type: 'Sequence', pretokenizers } };
    await changeJson(join(directory, 'tokenizer.json'), changed);
    return directory;
  }

  test('texts are taken apart as here', async () => {
    const names = ['chatml', 'gemma', 'gpt2', 'llama3', 'metaspace', 'mistral'];
    const directories = [
      ...names.map(name => join(FIXTURES, 'fixtures', name)),
      join(FIXTURES, 'parity/byte-fallback'),
      ...(await Promise.all(Object.values(SPLITTERS).map(splitting))),
    ];
    const model = await openModel(goldenDirectory('llama2'));
    const cases = await Promise.all(
      directories.map(async (directory, i) => {
        const files = await tokenizerIn(directory);
        const size = (await loadTokenizer(directory)).vocabSize;
        const file = join(folder, `vocabulary-${i}.gguf`);
        const sized = { ...model, shape: { ...model.shape, vocabSize: size } };
        await writeGguf(file, { metadata: ggufMetadata(sized, files), tensors: {} });
        return { file, texts: TEXTS };
      }),
    );
    const answers = await ask<number[][][]>(cases);
    for (const [i, directory] of directories.entries()) {
      const ours = await loadTokenizer(directory);
      const [alone, around] = answers[i]!;
      expect(alone, directory).toEqual(TEXTS.map(text => ours.encode(text)));
      expect(around, directory).toEqual(TEXTS.map(text => ours.encodeWhole(text)));
    }
  }, 120_000);
});
