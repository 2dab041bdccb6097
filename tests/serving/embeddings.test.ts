// POST /v1/embeddings through the official client, against what sentence-transformers and transformers compute.
import { createReadStream, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import OpenAI from 'openai';
import { beforeAll, describe, expect, test } from 'vitest';
import { loadTokenizer, type Tokenizer } from '../../src/data/tokenizer.ts';
import { openModel } from '../../src/models/registry.ts';
import { insertModel, type StoredFile, upsertBaseModel } from '../../src/store/models.ts';
import { BASE, golden, storeFolder, useServing, writeRandomAdapter } from './serving.ts';

const ENCODER = 'bert-tiny';
const ADAPTED = 'ft:bert-tiny:personal:one:EEEEEEEE';
const FILES = ['1_Pooling/config.json', 'config.json', 'model.safetensors', 'modules.json'].concat([
  'sentence_bert_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
]);
const expected: { texts: string[]; vectors: Record<string, number[][]> } = JSON.parse(
  readFileSync(golden('embeddings.json'), 'utf8'),
);
const { texts } = expected;

const server = useServing();
let tokenizer: Tokenizer;

/** The encoder with other pooling files: null leaves one out. */
async function storeEncoder(id: string, changed: Record<string, object | null> = {}): Promise<void> {
  const { deps } = server;
  const files: StoredFile[] = [];
  for (const path of FILES) {
    const change = changed[path];
    if (change === null) continue;
    const key = `models/${id}/${path}`;
    const body = change
      ? new Blob([JSON.stringify(change)]).stream()
      : createReadStream(join(golden(ENCODER), path));
    const { sizeBytes, sha256 } = await deps.blobs.put(key, body as never);
    files.push({ path, key, bytes: sizeBytes, sha256 });
  }
  await upsertBaseModel(deps.pool, { id, architecture: 'bert', ownedBy: 'test', files });
}

const transformer = { idx: 0, path: '', type: 'sentence_transformers.models.Transformer' };
const poolingModule = { idx: 1, path: '1_Pooling', type: 'sentence_transformers.models.Pooling' };

beforeAll(async () => {
  tokenizer = await loadTokenizer(golden(ENCODER));
  await storeEncoder(ENCODER);
  const plain = { 'modules.json': [transformer, poolingModule] };
  await storeEncoder('bert-mean', plain);
  await storeEncoder('bert-cls', {
    ...plain,
    '1_Pooling/config.json': { word_embedding_dimension: 32, pooling_mode_cls_token: true },
  });
  await storeEncoder('bert-last', { ...plain, '1_Pooling/config.json': { pooling_mode: 'lasttoken' } });
  await storeEncoder('bert-max', { ...plain, '1_Pooling/config.json': { pooling_mode_max_tokens: true } });
  await storeEncoder('bert-dense', {
    'modules.json': [
      transformer,
      poolingModule,
      { path: '2_Dense', type: 'sentence_transformers.models.Dense' },
    ],
  });
  await storeEncoder('bert-alone', { 'modules.json': null, '1_Pooling/config.json': null });
  const folder = await mkdtemp(join(tmpdir(), 'anneal-embeddings-'));
  await writeRandomAdapter(await openModel(golden(ENCODER)), folder, 5);
  const files = await storeFolder(server.deps, ADAPTED, folder);
  const row = { projectId: server.projectId, architecture: 'bert', jobId: null, step: null, ownedBy: 'x' };
  await insertModel(server.deps.pool, { ...row, id: ADAPTED, kind: 'adapter', baseModel: ENCODER, files });
  await rm(folder, { recursive: true });
});

const create = (body: Partial<OpenAI.EmbeddingCreateParams>) =>
  server.client.embeddings.create({ model: ENCODER, input: 'x', ...body });
const vectorsOf = async (body: Partial<OpenAI.EmbeddingCreateParams>) =>
  (await create(body)).data.map(({ embedding }) => embedding);

async function failure(request: Promise<unknown>): Promise<InstanceType<typeof OpenAI.APIError>> {
  const error = await request.then(
    () => null,
    error => error,
  );
  if (error instanceof OpenAI.APIError) return error;
  throw error ?? new Error('the request was answered');
}

function expectAlike(ours: number[][], theirs: number[][]): void {
  expect(ours.map(vector => vector.length)).toEqual(theirs.map(vector => vector.length));
  const differences = ours.flatMap((vector, i) => vector.map((x, j) => Math.abs(x - theirs[i]![j]!)));
  expect(Math.max(...differences)).toBeLessThan(1e-4);
}

describe('200', () => {
  test.each([
    [ENCODER, 'normalized'],
    ['bert-alone', 'normalized'],
    ['bert-mean', 'mean'],
    ['bert-cls', 'cls'],
    ['bert-last', 'lasttoken'],
    [BASE, 'llama-tiny'],
  ])('%s gives the vectors of the reference, %s', async (model, mode) => {
    expectAlike(await vectorsOf({ model, input: texts }), expected.vectors[mode]!);
  });

  test("an answer in OpenAI's form, with what it took", async () => {
    const answer = await create({ input: texts, encoding_format: 'float' });
    const tokens = texts.reduce((sum, text) => sum + tokenizer.encodeWhole(text).length, 0);
    expect(answer).toMatchObject({
      object: 'list',
      model: ENCODER,
      usage: { prompt_tokens: tokens, total_tokens: tokens },
    });
    expect(answer.data.map(({ index, object }) => [index, object])).toEqual(
      texts.map((_, i) => [i, 'embedding']),
    );
  });

  test('a text, its tokens, and several of both give the same', async () => {
    const [one] = await vectorsOf({ input: texts[0]! });
    const tokens = texts.map(text => tokenizer.encodeWhole(text));
    expectAlike(await vectorsOf({ input: tokens[0]! }), [one!]);
    expectAlike(await vectorsOf({ input: tokens }), await vectorsOf({ input: texts }));
  });

  test('floats and base64 are the same numbers', async () => {
    const floats = await create({ input: texts, encoding_format: 'float' });
    // The client asks for base64 when it is asked for nothing, and decodes it.
    const decoded = await create({ input: texts });
    expect(decoded.data.map(({ embedding }) => embedding)).toEqual(
      floats.data.map(({ embedding }) => Array.from(Float32Array.from(embedding))),
    );
    const raw = await create({ input: texts, encoding_format: 'base64' });
    expect(typeof raw.data[0]!.embedding).toBe('string');
  });

  test('fewer dimensions are the first ones, of length 1 again', async () => {
    const [whole] = await vectorsOf({ input: texts[0]! });
    const [cut] = await vectorsOf({ input: texts[0]!, dimensions: 8 });
    const first = whole!.slice(0, 8);
    expectAlike([cut!], [first.map(x => x / Math.hypot(...first))]);
    const [unscaled] = await vectorsOf({ model: 'bert-mean', input: texts[0]!, dimensions: 8 });
    expectAlike([unscaled!], [expected.vectors.mean![0]!.slice(0, 8)]);
  });

  test('a fine-tuned model gives others than its base, also in the same moment', async () => {
    const [base, adapted] = await Promise.all([
      vectorsOf({ input: texts }),
      vectorsOf({ model: ADAPTED, input: texts }),
    ]);
    expectAlike(base, expected.vectors.normalized!);
    expect(Math.abs(base[0]![0]! - adapted[0]![0]!)).toBeGreaterThan(1e-3);
  });

  test('a hundred texts of all lengths are each what they are alone', async () => {
    const words = texts.join(' ').split(' ');
    const many = Array.from({ length: 100 }, (_, i) =>
      words.slice(i % 40, (i % 40) + 1 + (i % 23)).join(' '),
    );
    const together = await vectorsOf({ input: many });
    for (const i of [0, 22, 57, 99]) expectAlike([together[i]!], await vectorsOf({ input: many[i]! }));
  });
});

describe('400', () => {
  const refusals: [string, object, object][] = [
    ['an empty text', { input: '' }, { param: 'input' }],
    ['no texts', { input: [] }, { param: 'input' }],
    ['an empty text among others', { input: ['a', ''] }, { param: 'input[1]' }],
    ['too many texts', { input: Array(2049).fill('a') }, { param: 'input' }],
    ['an unknown token', { input: [1, 9999] }, { param: 'input', code: 'invalid_value' }],
    ['more dimensions than there are', { dimensions: 33 }, { param: 'dimensions' }],
    ['no dimensions', { dimensions: 0 }, { param: 'dimensions', code: 'integer_below_min_value' }],
    ['an unknown format', { encoding_format: 'hex' }, { param: 'encoding_format' }],
    ['an unknown parameter', { truncate: true }, { param: 'truncate', code: 'unknown_parameter' }],
  ];

  test.each(refusals)('%s', async (_, body, error) => {
    const { status, ...refused } = await failure(create(body as never));
    expect({ status, ...refused }).toMatchObject({ status: 400, ...error });
  });

  test('a text longer than the model takes, named', async () => {
    const error = await failure(create({ input: ['a', 'a '.repeat(200)] }));
    expect(error).toMatchObject({ status: 400, code: 'context_length_exceeded', param: 'input' });
    expect(error.message).toContain(
      "maximum context length is 96 tokens, however you requested 202 tokens in 'input[1]'",
    );
  });
});

test('404: an encoder writes no text', async () => {
  const chat = server.client.chat.completions.create({
    model: ENCODER,
    messages: [{ role: 'user', content: 'a' }],
  });
  const error = await failure(chat);
  expect(error).toMatchObject({ status: 404, param: 'model' });
  expect(error.message).toContain('This is not a chat model');
  const completion = await failure(server.client.completions.create({ model: ENCODER, prompt: 'a' }));
  expect(completion).toMatchObject({ status: 404, param: 'model' });
});

test('404: a model that is not there', async () => {
  expect(await failure(create({ model: 'none' }))).toMatchObject({ status: 404, code: 'model_not_found' });
});

test.each([
  ['bert-max', 'pooling_mode_max_tokens is not supported; mean, cls, last are'],
  ['bert-dense', 'Dense is not supported; known are Transformer, Pooling, Normalize'],
])('%s, which pools as is not served, says so', async (model, message) => {
  const client = server.client.withOptions({ maxRetries: 0 });
  const error = await failure(client.embeddings.create({ model, input: 'a' }));
  expect(error.status).toBe(500);
  expect(error.message).toContain(message);
});
