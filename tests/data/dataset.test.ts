// The token cache: what is read back is what was made, it is made once, and never half.
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import {
  type Dataset,
  DatasetError,
  type TokenizeFileOptions,
  tokenizeFile,
} from '../../src/data/dataset.ts';
import { countTrained } from '../../src/data/example-form.ts';
import { generationForm, makeSequences } from '../../src/data/examples.ts';
import { loadTokenizer } from '../../src/data/tokenizer.ts';

const FIXTURES = join(import.meta.dirname, 'fixtures');
const folder = mkdtempSync(join(tmpdir(), 'anneal-dataset-'));
afterAll(() => rmSync(folder, { recursive: true }));

const tokenizer = await loadTokenizer(join(FIXTURES, 'chatml'));
const mistral = await loadTokenizer(join(FIXTURES, 'mistral'));
const lines = Array.from({ length: 50 }, (_, i) => ({
  messages: [
    { role: 'user' as const, content: `Number ${i}?` },
    { role: 'assistant' as const, content: 'word '.repeat(i % 7).trim() || `${i}` },
  ],
}));

let cacheDirectory: string;
let file: string;
beforeEach(() => {
  const own = mkdtempSync(join(folder, 'case-'));
  cacheDirectory = join(own, 'cache');
  file = join(own, 'train.jsonl');
  writeFileSync(file, lines.map(line => `${JSON.stringify(line)}\r\n\n`).join(''));
});

const tokenize = (options: Partial<TokenizeFileOptions> = {}) =>
  tokenizeFile({ file, form: generationForm, tokenizer, maxLength: 1000, cacheDirectory, ...options });

const all = (dataset: Dataset) => Array.from({ length: dataset.count }, (_, i) => dataset.read(i));

test('gives every example as it was made, in any order', async () => {
  const dataset = await tokenize();
  const expected = lines.flatMap(line => makeSequences(line, tokenizer));
  expect(all(dataset).map(({ sequences }) => sequences)).toEqual(expected.map(sequence => [sequence]));
  expect(dataset.read(17).sequences).toEqual([expected[17]]);
  expect(all(dataset).every(({ values }) => values.length === 0)).toBe(true);
  expect([...dataset.lengths]).toEqual(expected.map(example => example.tokens.length));
  const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);
  expect(dataset).toMatchObject({
    count: 50,
    lines: 50,
    tokens: sum(expected.map(example => example.tokens.length)),
    trainedTokens: sum(expected.map(countTrained)),
    truncated: 0,
    dropped: 0,
  });
  expect(() => dataset.read(50)).toThrow(RangeError);
  dataset.close();
});

test('cuts what is too long, counts it, and leaves out what has nothing left to learn', async () => {
  const lengths = lines.map(line => makeSequences(line, tokenizer)[0]!.tokens.length);
  const maxLength = Math.min(...lengths) + 1;
  const dataset = await tokenize({ maxLength });
  expect(Math.max(...dataset.lengths)).toBe(maxLength);
  expect(dataset.truncated).toBe(lengths.filter(length => length > maxLength).length);
  expect(dataset.dropped + dataset.count).toBe(50);
  dataset.close();

  const nothing = await tokenize({ maxLength: 3 });
  expect(nothing).toMatchObject({ count: 0, dropped: 50, truncated: 50, trainedTokens: 0 });
  nothing.close();
});

describe('the cache', () => {
  /** Times at which the entries were made; an entry that is made again has another. */
  const entries = () =>
    readdirSync(cacheDirectory).map(name => [
      name,
      statSync(join(cacheDirectory, name, 'meta.json')).mtimeMs,
    ]);
  const age = () => {
    for (const name of readdirSync(cacheDirectory))
      utimesSync(join(cacheDirectory, name, 'meta.json'), 1000, 1000);
  };

  test('is used again, for the same bytes under any name', async () => {
    (await tokenize()).close();
    age();
    const before = entries();
    (await tokenize()).close();
    expect(entries()).toEqual(before);
  });

  test.each<[string, () => Partial<TokenizeFileOptions>]>([
    ['another length', () => ({ maxLength: 20 })],
    ['another tokenizer', () => ({ tokenizer: mistral })],
    [
      'another byte in the file',
      () => {
        appendFileSync(file, ' ');
        return {};
      },
    ],
  ])('is made anew for %s', async (_, change) => {
    (await tokenize()).close();
    (await tokenize(change())).close();
    expect(entries()).toHaveLength(2);
  });

  test('holds nothing of a run that failed', async () => {
    appendFileSync(file, '{"messages": [}\n');
    const failed = tokenize();
    await expect(failed).rejects.toThrow(DatasetError);
    await expect(failed).rejects.toMatchObject({
      line: 101,
      message: 'Line 101: line contains invalid json',
    });
    expect(readdirSync(cacheDirectory)).toEqual([]);
  });

  test('holds nothing of a run that was stopped', async () => {
    const stop = new AbortController();
    const stopped = tokenize({ signal: stop.signal, onProgress: () => stop.abort(new Error('cancelled')) });
    await expect(stopped).rejects.toThrow();
    expect(existsSync(cacheDirectory) ? readdirSync(cacheDirectory) : []).toEqual([]);
  });

  test('two that make the same entry at once both get it', async () => {
    const [a, b] = await Promise.all([tokenize(), tokenize()]);
    expect(all(a!)).toEqual(all(b!));
    expect(readdirSync(cacheDirectory)).toHaveLength(1);
    a!.close();
    b!.close();
  });
});

test('a line that the template refuses is named', async () => {
  const twice = { messages: [{ role: 'user', content: 'a' }, ...lines[0]!.messages] };
  appendFileSync(file, `${JSON.stringify(twice)}\n`);
  await expect(tokenize({ tokenizer: mistral })).rejects.toThrow(
    "Line 101: the model's chat template refuses it: Conversation roles must alternate",
  );
});

test('progress goes up to the end of the file', async () => {
  const seen: number[] = [];
  const dataset = await tokenize({ onProgress: ({ bytes, totalBytes }) => seen.push(bytes / totalBytes) });
  expect(seen.at(-1)).toBe(1);
  expect(seen).toEqual([...seen].sort((a, b) => a - b));
  dataset.close();
});
