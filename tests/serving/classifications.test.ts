// POST /v1/classifications and labels as text, by models that a run has trained: their scores are those of the run's own evaluation.
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type OpenAI from 'openai';
import { beforeAll, describe, expect, test } from 'vitest';
import { insertModel } from '../../src/store/models.ts';
import type { Method, TrainSpec } from '../../src/training/protocol.ts';
import { collect, eventsOf } from '../training/toy-task.ts';
import { ANSWERER, BASE, golden, PLAIN, storeFolder, useServing } from './serving.ts';

const server = useServing();
const folder = mkdtempSync(join(tmpdir(), 'anneal-classifications-'));

const TEXTS = [
  ['the parcel came broken', 'damage', 0.9],
  ['my card was charged twice', 'billing', 0.5],
  ['hello', 'other', -0.5],
] as const;
const lines = (make: (text: string, label: string, value: number) => object): string =>
  Array.from({ length: 15 }, (_, i) => {
    const [text, label, value] = TEXTS[i % 3]!;
    return `${JSON.stringify(make(`${text} ${i}`, label, value))}\n`;
  }).join('');

interface Trained {
  report: {
    fine_tuned: Record<string, number>;
    examples: { input: string; predicted: unknown; scores: Record<string, number> }[];
  };
  id: string;
}

async function trainModel(
  name: string,
  base: string,
  method: Method,
  content: string,
  hyperparameters: TrainSpec['hyperparameters'] = {},
): Promise<Trained> {
  const file = (kind: string) => join(folder, `${name}-${kind}.jsonl`);
  writeFileSync(file('training'), content);
  writeFileSync(file('validation'), content.split('\n').slice(0, 6).join('\n'));
  const workDirectory = join(folder, name);
  const events = await collect({
    jobId: 'ftjob-toy',
    modelDirectory: golden(base),
    adapterDirectory: null,
    trainingFile: file('training'),
    validationFile: file('validation'),
    workDirectory,
    resumeDirectory: null,
    method,
    hyperparameters: { n_epochs: 2, batch_size: 3, rank: 4, ...hyperparameters },
    seed: 3,
    engine: 'onnx',
    device: 'cpu',
    threads: 1,
    checkpointSeconds: 3600,
    memoryBudgetBytes: null,
  });
  expect(eventsOf(events, 'failed')).toEqual([]);
  const { directory } = eventsOf(events, 'checkpoint').findLast(
    ({ kind, step }) => kind === 'model' && step === eventsOf(events, 'finished')[0]!.bestStep,
  )!;
  const id = `ft:${base}:personal:${name}:AAAAAAAA`;
  const files = await storeFolder(server.deps, id, directory);
  await insertModel(server.deps.pool, {
    id,
    projectId: server.projectId,
    architecture: 'llama',
    jobId: null,
    step: null,
    ownedBy: 'personal',
    kind: hyperparameters.adapter === 'full' ? 'full' : 'adapter',
    baseModel: base,
    files,
  });
  return { id, report: JSON.parse(readFileSync(join(workDirectory, 'evaluation.json'), 'utf8')) };
}

let labels: Trained;
let full: Trained;
let several: Trained;
let answerer: Trained;
let numbers: Trained;
let conversations: Trained;
beforeAll(async () => {
  const single = lines((input, label) => ({ input, label }));
  labels = await trainModel('labels', BASE, { type: 'classification' }, single);
  full = await trainModel('full', PLAIN, { type: 'classification', class_weights: 'balanced' }, single, {
    adapter: 'full',
  });
  answerer = await trainModel('answerer', ANSWERER, { type: 'classification' }, single);
  const multiple = lines((input, label) => ({ input, labels: label === 'other' ? [] : [label, 'urgent'] }));
  several = await trainModel('several', BASE, { type: 'classification' }, multiple);
  numbers = await trainModel(
    'numbers',
    BASE,
    { type: 'regression' },
    lines((input, _, value) => ({ input, value })),
  );
  conversations = await trainModel(
    'conversations',
    BASE,
    { type: 'classification' },
    lines((content, label) => ({ messages: [{ role: 'user', content }], label })),
  );
}, 120_000);

interface Answer {
  object: string;
  model: string;
  data: {
    object: string;
    index: number;
    label: string | null;
    labels: string[] | null;
    value: number | null;
    scores: Record<string, number> | null;
  }[];
  usage: { prompt_tokens: number; total_tokens: number };
}

const classify = (body: object) => server.client.post<Answer>('/classifications', { body });
const failure = (body: object): Promise<InstanceType<typeof OpenAI.APIError>> =>
  classify(body).then(
    () => Promise.reject(new Error('the request was answered')),
    error => error,
  );

describe('200', () => {
  test.each([
    ['an adapter', () => labels],
    ['a model that was trained whole', () => full],
    ['an encoder-decoder', () => answerer],
  ])('labels with their scores, as the evaluation of the run saw them: %s', async (_, trained) => {
    const { id, report } = trained();
    const inputs = report.examples.map(({ input }) => input);
    const answer = await classify({ model: id, input: inputs });
    expect(answer).toMatchObject({ object: 'list', model: id });
    expect(answer.usage.prompt_tokens).toBeGreaterThan(inputs.length);
    expect(answer.usage.total_tokens).toBe(answer.usage.prompt_tokens);
    answer.data.forEach(({ label, scores, ...rest }, index) => {
      const expected = report.examples[index]!;
      expect(rest).toEqual({ object: 'classification', index, labels: null, value: null });
      expect(label).toBe(expected.predicted);
      expect(Object.keys(scores!)).toEqual(['billing', 'damage', 'other']);
      for (const [name, score] of Object.entries(scores!))
        expect(Math.abs(score - expected.scores[name]!)).toBeLessThan(1e-5);
      expect(Object.values(scores!).reduce((sum, score) => sum + score, 0)).toBeCloseTo(1, 6);
    });
  });

  test('a text alone', async () => {
    const { data } = await classify({ model: labels.id, input: 'hello' });
    expect(data).toHaveLength(1);
  });

  test('several labels, above a threshold', async () => {
    const ask = async (threshold?: number) =>
      (await classify({ model: several.id, input: 'the parcel came broken', threshold })).data[0]!;
    const { label, scores } = await ask();
    expect(label).toBeNull();
    expect(Object.keys(scores!)).toEqual(['billing', 'damage', 'urgent']);
    expect((await ask(0)).labels).toEqual(['billing', 'damage', 'urgent']);
    expect((await ask(1)).labels).toEqual([]);
    const middle = Object.values(scores!).sort((a, b) => a - b)[1]!;
    expect((await ask(middle)).labels).toHaveLength(1);
  });

  test('a number', async () => {
    const { examples } = numbers.report;
    const { data } = await classify({ model: numbers.id, input: examples.map(({ input }) => input) });
    data.forEach(({ value, label, labels, scores }, i) => {
      expect({ label, labels, scores }).toEqual({ label: null, labels: null, scores: null });
      expect(Math.abs(value! - (examples[i]!.predicted as number))).toBeLessThan(1e-5);
    });
  });

  test('a conversation, and a text as what a user says, for a model that was trained on conversations', async () => {
    const { input, scores } = conversations.report.examples[1]!;
    const asText = await classify({ model: conversations.id, input });
    const messages = [{ role: 'user', content: input }];
    const asMessages = await classify({ model: conversations.id, messages });
    expect(asText.data).toEqual(asMessages.data);
    for (const [name, score] of Object.entries(asText.data[0]!.scores!))
      expect(Math.abs(score - scores[name]!)).toBeLessThan(1e-5);
  });

  test('what the user said last, for a model that was trained on texts', async () => {
    const messages = [
      { role: 'user', content: 'hello' },
      { role: 'assistant', content: 'How can I help?' },
      { role: 'user', content: 'my card was charged twice' },
    ];
    const asked = await classify({ model: labels.id, messages });
    expect(asked.data).toEqual(
      (await classify({ model: labels.id, input: 'my card was charged twice' })).data,
    );
  });
});

describe('as text', () => {
  const messages = [{ role: 'user' as const, content: 'my card was charged twice' }];

  test.each([
    ['a causal model', () => labels],
    ['an encoder-decoder', () => answerer],
  ])('the label answers a chat completion, whole and as a stream: %s', async (_, trained) => {
    const model = trained().id;
    const [expected] = (await classify({ model, messages })).data;
    const completion = await server.client.chat.completions.create({ model, messages, n: 2 });
    expect(completion.choices.map(({ message }) => message.content)).toEqual([
      expected!.label,
      expected!.label,
    ]);
    expect(completion.choices[0]!.finish_reason).toBe('stop');
    expect(completion.usage!.prompt_tokens).toBeGreaterThan(0);
    let text = '';
    const stream = await server.client.chat.completions.create({ model, messages, stream: true });
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
    expect(text).toBe(expected!.label);
  });

  test('a number answers a completion', async () => {
    const { data } = await classify({ model: numbers.id, input: 'hello' });
    const completion = await server.client.completions.create({ model: numbers.id, prompt: 'hello' });
    expect(completion.choices[0]!.text).toBe(String(data[0]!.value));
  });

  test('log-probabilities of tokens are refused', async () => {
    const asked = server.client.chat.completions.create({ model: labels.id, messages, logprobs: true });
    await expect(asked).rejects.toMatchObject({ status: 400, param: 'logprobs' });
  });
});

describe('400 and 404', () => {
  test.each([
    ['nothing to read', {}, 400, 'input', /Missing required parameter: 'input' \(or 'messages'\)/],
    ['both forms', { input: 'a', messages: [{ role: 'user', content: 'a' }] }, 400, 'input', /not both/],
    ['an empty list', { input: [] }, 400, 'input', /array too short/],
    [
      'too long a text',
      { input: ['a', 'word '.repeat(5000)] },
      400,
      'input',
      /maximum context length .* in 'input\[1\]'/,
    ],
    ['a threshold above 1', { input: 'a', threshold: 2 }, 400, 'threshold', /above maximum/],
  ] as const)('%s', async (_, body, status, param, message) => {
    const error = await failure({ model: labels.id, ...body });
    expect(error).toMatchObject({ status, param });
    expect(error.message).toMatch(message);
  });

  test('a model that writes text', async () => {
    const error = await failure({ model: BASE, input: 'a' });
    expect(error).toMatchObject({ status: 404, param: 'model' });
    expect(error.message).toContain('not a classification model');
  });

  test('a model that is not there', async () => {
    expect(await failure({ model: 'none', input: 'a' })).toMatchObject({
      status: 404,
      code: 'model_not_found',
    });
  });
});
