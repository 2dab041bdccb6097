// Runs of evaluations from the request to the last item: answers of a real model, every criterion, files, cancels, and kills.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import OpenAI from 'openai';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { startWorker, type Worker } from '../../src/queue/worker.ts';
import { upsertBaseModel } from '../../src/store/models.ts';
import { writeRateLimit } from '../../src/store/rate-limits.ts';
import { ADAPTER, BASE, golden, storeFolder, useServing } from '../serving/serving.ts';
import { startWorkerProcess, type WorkerProcess } from './processes.ts';
import { waitFor } from './setting.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

/** Another API: its model answers `answer n` to a question that holds `number n`, after a while, and counts. */
const asked = new Map<string, number>();
let answerMs = 0;
const elsewhere = createServer(async (request, response) => {
  let text = '';
  for await (const chunk of request) text += chunk;
  const body = JSON.parse(text);
  const number = /number (\d+)/.exec(body.messages.at(-1).content)?.[1] ?? 'none';
  asked.set(number, (asked.get(number) ?? 0) + 1);
  await new Promise(done => setTimeout(done, answerMs));
  response.setHeader('content-type', 'application/json');
  if (number === '666')
    return response.writeHead(400).end('{"error": {"message": "the number of the beast"}}');
  const message = { role: 'assistant', content: `answer ${number}`, refusal: null };
  const usage = { prompt_tokens: 5, completion_tokens: 2, total_tokens: 7 };
  const choices = [{ index: 0, finish_reason: 'stop', message }];
  return response.end(
    JSON.stringify({ id: 'x', object: 'chat.completion', created: 1, model: 'm', choices, usage }),
  );
});
const ENCODER = 'bert-tiny';
const environment: Record<string, string> = {
  ANNEAL_GRADER_EMBEDDING_MODEL: ENCODER,
  ANNEAL_LEASE_SECONDS: '3',
  ANNEAL_PYTHON_GRADER_SECONDS: '60',
};
beforeAll(async () => {
  await new Promise<void>(done => elsewhere.listen(0, '127.0.0.1', done));
  environment.ANNEAL_GRADER_URL = `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}/v1`;
});
afterAll(() => elsewhere.close());

const server = useServing({ environment });
let worker: Worker | null = null;
let process_: WorkerProcess | null = null;
const start = async () => {
  worker = await startWorker(server.deps);
};
const startProcess = async () => {
  const { config } = server.deps;
  const own = {
    DATABASE_URL: server.database.url,
    ANNEAL_DATA_DIR: config.dataDirectory,
    ANNEAL_THREADS: '1',
  };
  process_ = await startWorkerProcess({ ...environment, ...own });
};
afterEach(async () => {
  await worker?.close();
  await process_?.end('SIGKILL');
  worker = null;
  process_ = null;
  answerMs = 0;
  asked.clear();
});

const equal = {
  type: 'string_check',
  name: 'same',
  input: '{{sample.output_text}}',
  reference: '{{item.answer}}',
  operation: 'eq',
} as const;
const custom = {
  type: 'custom' as const,
  item_schema: { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'] },
};

async function createEval(criteria: object[], config: object = custom) {
  const body = { name: 'numbers', data_source_config: config, testing_criteria: criteria } as never;
  return server.client.evals.create(body);
}

async function storeEncoder() {
  const { deps } = server;
  const files = await storeFolder(deps, ENCODER, golden(ENCODER));
  await upsertBaseModel(deps.pool, { id: ENCODER, architecture: 'bert', ownedBy: 'test', files });
}

const template = { type: 'template', template: [{ role: 'user', content: 'Say number {{item.n}}' }] };
const remote = (numbers: number[]) => ({
  type: 'completions',
  model: 'elsewhere-1',
  source: { type: 'file_content', content: numbers.map(n => ({ item: { n, answer: `answer ${n}` } })) },
  input_messages: template,
});

const startRun = (evalId: string, data_source: object, more: object = {}) =>
  server.client.evals.runs.create(evalId, { data_source, ...more } as never);

const requestsNoted = () =>
  server.deps.usage.totals().find(({ kind }) => kind === 'completions')?.requests ?? 0;
const ENDED = ['completed', 'failed', 'canceled'];
function untilEnded(evalId: string, runId: string) {
  return waitFor(`run ${runId} to end`, async () => {
    const run = await server.client.evals.runs.retrieve(runId, { eval_id: evalId });
    return ENDED.includes(run.status) ? run : null;
  });
}

async function itemsOf(evalId: string, runId: string, query: object = {}) {
  const items = [];
  for await (const item of server.client.evals.runs.outputItems.list(runId, { eval_id: evalId, ...query }))
    items.push(item);
  return items;
}

async function isUnderWay(evalId: string, runId: string): Promise<boolean> {
  const run = await server.client.evals.runs.retrieve(runId, { eval_id: evalId });
  return run.result_counts.total > 0;
}

async function runToEnd(evalId: string, dataSource: object) {
  const run = await startRun(evalId, dataSource);
  return untilEnded(evalId, run.id);
}

describe('a run', () => {
  test('over answers that are part of the data, by every criterion that needs no model', async () => {
    await start();
    const made = await createEval(
      [
        equal,
        {
          type: 'text_similarity',
          name: 'near',
          input: '{{sample.output_text}}',
          reference: '{{item.answer}}',
          evaluation_metric: 'fuzzy_match',
          pass_threshold: 0.5,
        },
        {
          type: 'python',
          name: 'length',
          source: 'def grade(sample, item):\n    return len(sample["output_text"]) / 10',
          pass_threshold: 0.3,
        },
      ],
      { ...custom, include_sample_schema: true },
    );
    const content = [
      { item: { n: 0, answer: 'abcd' }, sample: { output_text: 'abcd' } },
      { item: { n: 1, answer: 'abcd' }, sample: { output_text: 'abcx' } },
      { item: { n: 2, answer: 'abcd' }, sample: { output_text: '' } },
    ];
    const run = await startRun(
      made.id,
      { type: 'jsonl', source: { type: 'file_content', content } },
      { name: 'r', metadata: { a: 'b' } },
    );
    expect(run).toMatchObject({
      object: 'eval.run',
      status: 'queued',
      eval_id: made.id,
      name: 'r',
      model: '',
      metadata: { a: 'b' },
      error: { code: '', message: '' },
    });
    const ended = await untilEnded(made.id, run.id);
    expect(ended).toMatchObject({
      status: 'completed',
      result_counts: { total: 3, passed: 1, failed: 2, errored: 0 },
      per_testing_criteria_results: [
        { testing_criteria: 'same', passed: 1, failed: 2 },
        { testing_criteria: 'near', passed: 2, failed: 1 },
        { testing_criteria: 'length', passed: 2, failed: 1 },
      ],
      per_model_usage: [],
    });
    const items = await itemsOf(made.id, run.id);
    expect(items.map(item => [item.datasource_item_id, item.status])).toEqual([
      [0, 'pass'],
      [1, 'fail'],
      [2, 'fail'],
    ]);
    expect(items[1]).toMatchObject({
      object: 'eval.run.output_item',
      run_id: run.id,
      eval_id: made.id,
      datasource_item: { n: 1, answer: 'abcd' },
      results: [
        { name: 'same', type: 'string-check-grader', score: 0, passed: false, sample: null },
        { name: 'near', type: 'text-similarity-grader', score: 0.75, passed: true },
        { name: 'length', type: 'python-grader', score: 0.4, passed: true },
      ],
      sample: {
        input: [],
        output: [{ role: 'assistant', content: 'abcx' }],
        error: { code: '', message: '' },
      },
    });
    expect((await itemsOf(made.id, run.id, { status: 'pass' })).map(item => item.datasource_item_id)).toEqual(
      [0],
    );
    expect(
      (await itemsOf(made.id, run.id, { order: 'desc', limit: 2 })).map(item => item.datasource_item_id),
    ).toEqual([2, 1, 0]);
    const one = await server.client.evals.runs.outputItems.retrieve(items[0]!.id, {
      eval_id: made.id,
      run_id: run.id,
    });
    expect(one).toEqual(items[0]);
  });

  test('asks a model served here, which answers as on chat completions', async () => {
    await start();
    const made = await createEval([{ ...equal, operation: 'ne' }]);
    const questions = [{ n: 1 }, { n: 2 }];
    const dataSource = {
      type: 'completions',
      model: ADAPTER,
      source: { type: 'file_content', content: questions.map(item => ({ item: { ...item, answer: 'x' } })) },
      input_messages: template,
      sampling_params: { temperature: 0, max_completion_tokens: 6 },
    };
    const ended = await runToEnd(made.id, dataSource);
    expect(ended).toMatchObject({
      status: 'completed',
      model: ADAPTER,
      result_counts: { total: 2, passed: 2 },
    });
    const [first] = await itemsOf(made.id, ended.id);
    const chat = await server.client.chat.completions.create({
      model: ADAPTER,
      messages: [{ role: 'user', content: 'Say number 1' }],
      temperature: 0,
      max_completion_tokens: 6,
    });
    expect(first!.sample).toMatchObject({
      input: [{ role: 'user', content: 'Say number 1' }],
      output: [{ role: 'assistant', content: chat.choices[0]!.message.content }],
      finish_reason: chat.choices[0]!.finish_reason,
      model: ADAPTER,
      temperature: 0,
      top_p: 1,
      seed: 42,
      max_completion_tokens: 6,
      usage: { prompt_tokens: chat.usage!.prompt_tokens, completion_tokens: chat.usage!.completion_tokens },
    });
    expect(ended.per_model_usage).toMatchObject([
      { model_name: ADAPTER, invocation_count: 2, prompt_tokens: 2 * chat.usage!.prompt_tokens },
    ]);
    const labels = {
      type: 'label_model',
      name: 'mood',
      model: BASE,
      labels: ['good', 'bad'],
      passing_labels: ['good'],
      input: [{ role: 'user', content: '{{sample.output_text}}' }],
    };
    const judged = await runToEnd((await createEval([labels])).id, dataSource);
    expect(judged).toMatchObject({ status: 'completed', result_counts: { total: 2, errored: 0 } });
    expect(judged.per_model_usage.map(use => use.model_name).sort()).toEqual([ADAPTER, BASE].sort());
  });

  test('waits at a limit of its project, and repeats nothing', async () => {
    const { pool } = server.deps;
    const limit = { requestsPerMinute: null, tokensPerMinute: null, requestsPerDay: 3 };
    await writeRateLimit(pool, { projectId: 'proj_default', model: 'all', ...limit });
    await start();
    const before = requestsNoted();
    const made = await createEval([{ ...equal, operation: 'ne' }]);
    const run = await startRun(made.id, {
      type: 'completions',
      model: BASE,
      source: { type: 'file_content', content: [1, 2, 3, 4, 5].map(n => ({ item: { n, answer: 'x' } })) },
      input_messages: template,
      sampling_params: { max_completion_tokens: 4 },
    });
    const later = await waitFor('the run to wait', async () => {
      const { rows } = await pool.query(
        `select start_after from pgboss.job where name = 'evaluate' and start_after > now() + interval '1 minute'`,
      );
      return rows[0];
    });
    expect((later.start_after.getTime() - Date.now()) / 3_600_000).toBeCloseTo(8, 0); // a third of a day
    expect(await server.client.evals.runs.retrieve(run.id, { eval_id: made.id })).toMatchObject({
      status: 'queued',
      result_counts: { total: 3, passed: 3, errored: 0 },
    });
    await pool.query('delete from rate_limits');
    await pool.query(`update pgboss.job set start_after = now() where name = 'evaluate'`);
    const ended = await untilEnded(made.id, run.id);
    expect(ended).toMatchObject({ status: 'completed', result_counts: { total: 5, passed: 5, errored: 0 } });
    expect(requestsNoted() - before).toBe(5);
  });

  test("compares texts by a model's embeddings", async () => {
    await storeEncoder();
    await start();
    const grader = {
      type: 'text_similarity',
      name: 'near',
      evaluation_metric: 'cosine',
      pass_threshold: 0.99,
    };
    const made = await createEval([{ ...grader, input: '{{item.a}}', reference: '{{item.b}}' }]);
    const [a, b] = ['The cat sat.', 'A dog ran far away!'];
    const content = [{ item: { n: 1, a, b: a } }, { item: { n: 2, a, b } }];
    const ended = await runToEnd(made.id, { type: 'jsonl', source: { type: 'file_content', content } });
    expect(ended).toMatchObject({ status: 'completed', result_counts: { total: 2, errored: 0 } });
    const scores = (await itemsOf(made.id, ended.id)).map(item => item.results[0]!.score);
    const { data } = await server.client.embeddings.create({ model: ENCODER, input: [a, b] });
    const dot = data[0]!.embedding.reduce((sum, value, i) => sum + value * data[1]!.embedding[i]!, 0);
    expect(scores[0]).toBeCloseTo(1, 6);
    expect(scores[1]).toBeCloseTo(dot, 5);
  });

  test('as a response, held to a schema', async () => {
    await start();
    const schema = {
      type: 'object',
      properties: { n: { enum: [1, 2] } },
      required: ['n'],
      additionalProperties: false,
    };
    const made = await createEval([
      { ...equal, input: '{{sample.output_json.n}}', reference: '3', operation: 'ne' },
    ]);
    const ended = await runToEnd(made.id, {
      type: 'responses',
      model: BASE,
      source: { type: 'file_content', content: [{ item: { n: 1 } }] },
      input_messages: template,
      sampling_params: {
        text: { format: { type: 'json_schema', name: 'n', schema, strict: true } },
        max_completion_tokens: 60,
      },
    });
    expect(ended).toMatchObject({ status: 'completed', result_counts: { passed: 1 } });
  });

  test('over a file: items, messages in the items, and what went wrong with some', async () => {
    await start();
    const lines = [1, 666, 3].map(n => ({
      item: {
        n,
        answer: `answer ${n}`,
        talk: [
          { role: 'system', content: 'Be brief.' },
          { role: 'user', content: `number ${n}` },
        ],
      },
    }));
    const file = await server.client.files.create({
      file: await OpenAI.toFile(
        Buffer.from(lines.map(line => `${JSON.stringify(line)}\n`).join('')),
        'items.jsonl',
      ),
      purpose: 'evals',
    });
    const made = await createEval([equal]);
    const ended = await runToEnd(made.id, {
      type: 'completions',
      model: 'elsewhere-1',
      source: { type: 'file_id', id: file.id },
      input_messages: { type: 'item_reference', item_reference: 'item.talk' },
    });
    expect(ended).toMatchObject({
      status: 'completed',
      result_counts: { total: 3, passed: 2, failed: 0, errored: 1 },
    });
    const items = await itemsOf(made.id, ended.id);
    expect(items[0]!.sample.input).toEqual([
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'number 1' },
    ]);
    expect(items[1]).toMatchObject({
      status: 'error',
      results: [],
      sample: {
        error: { code: 'server_error', message: expect.stringContaining('the number of the beast') },
      },
    });
  });

  test('over stored completions, graded as they are', async () => {
    await start();
    const messages = [{ role: 'user' as const, content: 'Hello' }];
    for (const [kind, user] of [
      ['kept', 'a'],
      ['other', 'b'],
    ] as const)
      await server.client.chat.completions.create({
        model: BASE,
        messages,
        store: true,
        metadata: { kind, user },
        max_completion_tokens: 3,
      });
    const made = await createEval([{ ...equal, input: '{{item.input[0].content}}', reference: 'Hello' }], {
      type: 'stored_completions',
      metadata: { kind: 'kept' },
    });
    const source = { type: 'stored_completions', metadata: { kind: 'kept' } };
    const ended = await runToEnd(made.id, { type: 'completions', source });
    expect(ended).toMatchObject({ status: 'completed', result_counts: { total: 1, passed: 1 } });
    const again = await runToEnd(made.id, {
      type: 'completions',
      source,
      model: 'elsewhere-1',
      input_messages: { type: 'item_reference', item_reference: 'item.input' },
    });
    expect(again).toMatchObject({ status: 'completed', model: 'elsewhere-1', result_counts: { total: 1 } });
  });

  test('over stored responses', async () => {
    await start();
    const asked = { model: BASE, max_output_tokens: 16, temperature: 0 };
    for (const [input, kind] of [
      ['One', 'kept'],
      ['Two', 'kept'],
      ['Three', 'other'],
    ] as const)
      await server.client.responses.create({
        ...asked,
        input,
        instructions: 'Be BRIEF.',
        metadata: { kind },
      });
    const made = await createEval([{ ...equal, input: '{{item.input[0].role}}', reference: 'user' }], {
      type: 'logs',
    });
    const source = {
      type: 'responses',
      metadata: { kind: 'kept' },
      instructions_search: 'brief',
      model: BASE,
    };
    const ended = await runToEnd(made.id, { type: 'responses', source });
    expect(ended).toMatchObject({ status: 'completed', result_counts: { total: 2, passed: 2 } });
    const items = await itemsOf(made.id, ended.id);
    expect(
      items.map(item => (item.datasource_item.input as { content: unknown }[])[0]!.content),
    ).toMatchObject([[{ text: 'One' }], [{ text: 'Two' }]]);
    expect(items[0]!.sample.output[0]!.content).not.toBe('');
    const none = await runToEnd(made.id, { type: 'responses', source: { ...source, tools: ['weather'] } });
    expect(none.result_counts.total).toBe(0);
  });

  test.each([
    ['no JSON', '{"item": {"n": 1}}\n{"item": \n', 'line 2: invalid JSON'],
    ['no item', '{"n": 1}\n', "line 1: expected an object with an object 'item'"],
    [
      'an item that is not of the schema',
      '{"item": {"n": 1}}\n\n{"item": {"n": "x"}}\n',
      'line 3: item/n must be integer',
    ],
  ])('over a file with %s fails and says where', async (_, text, message) => {
    await start();
    const file = await server.client.files.create({
      file: await OpenAI.toFile(Buffer.from(text), 'items.jsonl'),
      purpose: 'evals',
    });
    const made = await createEval([equal]);
    const ended = await runToEnd(made.id, { type: 'jsonl', source: { type: 'file_id', id: file.id } });
    expect(ended.status).toBe('failed');
    expect(ended.error).toMatchObject({ code: 'invalid_file', message: expect.stringContaining(message) });
  });

  test('in which graders fail: its items are errors, and say why', async () => {
    await start();
    const made = await createEval([
      { type: 'python', name: 'p', source: 'def grade(s, i): return 1 / i["n"]' },
      { ...equal, input: '{{item.gone}}' },
    ]);
    const ended = await runToEnd(made.id, {
      type: 'jsonl',
      source: { type: 'file_content', content: [{ item: { n: 0 } }] },
    });
    expect(ended).toMatchObject({ status: 'completed', result_counts: { errored: 1 } });
    const [item] = await itemsOf(made.id, ended.id, { status: 'error' });
    expect(item!.results).toMatchObject([
      {
        score: 0,
        passed: false,
        error: {
          code: 'python_grader_runtime_error',
          message: 'line 1: ZeroDivisionError: division by zero',
        },
      },
      { error: { code: 'invalid_variable_error' } },
    ]);
  });
});

describe('a run in hand', () => {
  test('is cancelled, on both paths, and its worker stops', async () => {
    await start();
    answerMs = 200;
    const made = await createEval([equal]);
    const runs = await Promise.all(
      [1, 2].map(() => startRun(made.id, remote(Array.from({ length: 400 }, (_, n) => n)))),
    );
    for (const run of runs) await waitFor('an item', () => isUnderWay(made.id, run.id));
    const [one, two] = runs as [(typeof runs)[0], (typeof runs)[0]];
    expect(await server.client.evals.runs.cancel(one.id, { eval_id: made.id })).toMatchObject({
      status: 'canceled',
    });
    const path = `/evals/${made.id}/runs/${two.id}/cancel`;
    expect(await server.client.post(path)).toMatchObject({ status: 'canceled' });
    await new Promise(done => setTimeout(done, 1500));
    const before = [...asked.values()].reduce((sum, count) => sum + count, 0);
    await new Promise(done => setTimeout(done, 1000));
    expect([...asked.values()].reduce((sum, count) => sum + count, 0)).toBe(before);
    await expect(server.client.post(path)).rejects.toMatchObject({ status: 400, code: 'invalid_run_state' });
  });

  test('is deleted with its evaluation', async () => {
    await start();
    answerMs = 200;
    const made = await createEval([equal]);
    const run = await startRun(made.id, remote(Array.from({ length: 200 }, (_, n) => n)));
    await waitFor('an item', () => isUnderWay(made.id, run.id));
    expect(await server.client.evals.delete(made.id)).toEqual({
      object: 'eval.deleted',
      deleted: true,
      eval_id: made.id,
    });
    await expect(server.client.evals.runs.retrieve(run.id, { eval_id: made.id })).rejects.toMatchObject({
      status: 404,
    });
    await worker!.close();
    worker = null;
    expect(asked.size).toBeLessThan(200);
    expect(
      (
        await server.deps.pool.query('select count(*)::int as n from eval_output_items where run_id = $1', [
          run.id,
        ])
      ).rows[0].n,
    ).toBe(0);
  });

  test('goes to the next worker when its own is told to end, and when it is killed: no item is done twice', async () => {
    const total = 60;
    answerMs = 150;
    const made = await createEval([equal]);
    const run = await startRun(made.id, remote(Array.from({ length: total }, (_, n) => n)));
    const done = async () => (await itemsOf(made.id, run.id)).map(item => item.datasource_item_id);
    /** Item -> how often its question had been asked when it was found done after a kill. */
    const finished = new Map<number, number>();
    for (const [signal, atLeast] of [
      ['SIGTERM', 8],
      ['SIGKILL', 24],
    ] as const) {
      await startProcess();
      await waitFor('items', async () => (await done()).length >= atLeast);
      await process_!.end(signal);
      for (const n of await done()) finished.set(n, asked.get(String(n))!);
      expect(finished.size).toBeLessThan(total);
    }
    await start();
    const ended = await untilEnded(made.id, run.id);
    expect(ended).toMatchObject({
      status: 'completed',
      result_counts: { total, passed: total, failed: 0, errored: 0 },
    });
    expect(ended.per_testing_criteria_results).toMatchObject([{ passed: total, failed: 0 }]);
    expect(ended.per_model_usage).toMatchObject([{ invocation_count: total, total_tokens: 7 * total }]);
    expect((await done()).sort((a, b) => a - b)).toEqual(Array.from({ length: total }, (_, n) => n));
    for (const [n, count] of finished) expect(asked.get(String(n)), `questions for item ${n}`).toBe(count);
  });
});
