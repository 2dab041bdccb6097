// Graders over HTTP, by the official client: every kind, what is refused, and models of another API.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { upsertBaseModel } from '../../src/store/models.ts';
import { writeRateLimit } from '../../src/store/rate-limits.ts';
import { BASE_MODEL, useServer } from '../support/server.ts';

interface Asked {
  path: string;
  body: Record<string, unknown>;
}

/** Another OpenAI-compatible API: its judge says what the last message ends with after `say:`. */
const asked: Asked[] = [];
let failing = false;
const elsewhere: Server = createServer(async (request, response) => {
  let text = '';
  for await (const chunk of request) text += chunk;
  const body = JSON.parse(text);
  asked.push({ path: request.url!, body });
  response.setHeader('content-type', 'application/json');
  if (failing) return response.writeHead(400).end(JSON.stringify({ error: { message: 'out of order' } }));
  if (request.url === '/v1/embeddings') {
    const data = body.input.map((input: string, index: number) => ({ index, embedding: [input.length, 1] }));
    const usage = { prompt_tokens: 5, total_tokens: 5 };
    return response.end(JSON.stringify({ object: 'list', data, model: body.model, usage }));
  }
  const content = /say: (.*)/.exec(body.messages.at(-1).content)?.[1] ?? '';
  const choices = [
    { index: 0, finish_reason: 'stop', message: { role: 'assistant', content, refusal: null } },
  ];
  const usage = { prompt_tokens: 30, completion_tokens: 4, total_tokens: 34 };
  return response.end(
    JSON.stringify({ id: 'x', object: 'chat.completion', created: 1, model: body.model, choices, usage }),
  );
});
const environment: Record<string, string> = {
  ANNEAL_GRADER_EMBEDDING_MODEL: 'embedder',
  ANNEAL_GRADER_API_KEY: 'k',
};
beforeAll(async () => {
  await new Promise<void>(done => elsewhere.listen(0, '127.0.0.1', done));
  environment.ANNEAL_GRADER_URL = `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}/v1`;
});
afterAll(() => elsewhere.close());
const server = useServer({ environment });
const bare = useServer();

const equal = {
  type: 'string_check',
  name: 'same',
  input: '{{sample.output_text}}',
  reference: '{{item.label}}',
  operation: 'eq',
} as const;
const run = (grader: object, model_sample: string, item: object = {}, from = server) =>
  from.client.fineTuning.alpha.graders.run({ grader: grader as never, model_sample, item });
const validate = (grader: object, from = server) =>
  from.client.fineTuning.alpha.graders.validate({ grader: grader as never });

describe('run', () => {
  test('string_check', async () => {
    const answer = await run(equal, 'returns', { label: 'returns' });
    expect(answer).toMatchObject({
      reward: 1,
      sub_rewards: {},
      model_grader_token_usage_per_model: {},
      metadata: {
        name: 'same',
        type: 'string_check',
        scores: {},
        token_usage: null,
        sampled_model_name: null,
      },
    });
    expect(Object.entries(answer.metadata.errors).filter(([, value]) => value)).toEqual([]);
    expect(answer.metadata.execution_time).toBeGreaterThanOrEqual(0);
  });

  test('text_similarity', async () => {
    const grader = {
      ...equal,
      type: 'text_similarity',
      operation: undefined,
      evaluation_metric: 'fuzzy_match',
    };
    expect((await run(grader, 'kitten', { label: 'sitting' })).reward).toBeCloseTo(8 / 13, 12);
    expect((await run({ ...grader, evaluation_metric: 'cosine' }, 'ab', { label: 'ab' })).reward).toBeCloseTo(
      1,
      12,
    );
  });

  test('python, named by nobody', async () => {
    const source = 'def grade(sample, item):\n    return len(sample["output_json"]["words"]) / item["most"]';
    const answer = await run({ type: 'python', source }, '{"words": ["a", "b"]}', { most: 8 });
    expect(answer).toMatchObject({ reward: 0.25, metadata: { type: 'python', name: 'python' } });
  });

  test('python that fails: 0, and why', async () => {
    const grader = { type: 'python', name: 'p', source: 'def grade(sample, item):\n    return item["x"]' };
    const { reward, metadata } = await run(grader, 'a');
    expect(reward).toBe(0);
    expect(metadata.errors).toMatchObject({
      python_grader_runtime_error: true,
      python_grader_runtime_error_details: "line 2: KeyError: 'x'",
      python_grader_server_error: false,
    });
  });

  test('score_model and label_model ask the other API', async () => {
    const judge = {
      type: 'score_model',
      name: 'j',
      model: 'judge-1',
      range: [0, 5],
      input: [
        { role: 'developer', content: 'Mind {{item.what}}.' },
        { role: 'user', content: 'say: {{sample.output_text}}' },
      ],
    };
    asked.length = 0;
    const answer = await run(judge, '{"result": 4.5}', { what: 'grammar' });
    expect(answer).toMatchObject({
      reward: 4.5,
      metadata: { token_usage: 34, sampled_model_name: 'judge-1' },
      model_grader_token_usage_per_model: { 'judge-1': { total_tokens: 34 } },
    });
    expect(asked).toMatchObject([
      { path: '/v1/chat/completions', body: { model: 'judge-1', temperature: 0 } },
    ]);
    expect((asked[0]!.body.messages as object[])[0]).toEqual({ role: 'developer', content: 'Mind grammar.' });
    const label = {
      type: 'label_model',
      name: 'l',
      model: 'judge-1',
      labels: ['good', 'bad'],
      passing_labels: ['good'],
      input: [{ role: 'user', content: 'say: good' }],
    };
    expect(await run(label, '')).toMatchObject({ reward: 1 });
  });

  test('a model that answers nothing of use, and one that is out of order', async () => {
    const judge = {
      type: 'score_model',
      name: 'j',
      model: 'judge-1',
      input: [{ role: 'user', content: 'say: wonderful' }],
    };
    expect(await run(judge, '')).toMatchObject({
      reward: 0,
      metadata: { errors: { model_grader_parse_error: true } },
    });
    failing = true;
    const { reward, metadata } = await run(judge, '').finally(() => {
      failing = false;
    });
    expect(reward).toBe(0);
    expect(metadata.errors.model_grader_server_error).toBe(true);
    expect(metadata.errors.model_grader_server_error_details).toContain('out of order');
  });

  describe('what the other API answers', () => {
    const judge = {
      type: 'score_model',
      name: 'j',
      model: 'judge-2',
      input: [{ role: 'user', content: 'say: {"result": 1}' }],
    };
    const used = async (model: string) => {
      await server.deps.usage.flush();
      const { rows } = await server.deps.pool.query(
        `select kind, project_id, api_key_id is not null as by_key, requests, input_tokens, output_tokens
         from usage where model = $1`,
        [model],
      );
      return rows;
    };

    test('is usage of the project, under the name of its model', async () => {
      await run(judge, '');
      await run(judge, '');
      await run(
        { ...equal, type: 'text_similarity', operation: undefined, evaluation_metric: 'cosine' },
        'a',
        { label: 'b' },
      );
      const project = { project_id: server.projectId, by_key: true };
      expect(await used('judge-2')).toEqual([
        { kind: 'completions', ...project, requests: 2, input_tokens: 60, output_tokens: 8 },
      ]);
      expect(await used('embedder')).toMatchObject([{ kind: 'embeddings', ...project, output_tokens: 0 }]);
    });

    test('is under the limits of the project', async () => {
      const { pool } = server.deps;
      const limit = { requestsPerMinute: null, tokensPerMinute: null, requestsPerDay: 1 };
      await writeRateLimit(pool, { projectId: server.projectId, model: 'all', ...limit });
      try {
        expect(await run({ ...judge, model: 'judge-3' }, '')).toMatchObject({ reward: 1 });
        asked.length = 0;
        await expect(run({ ...judge, model: 'judge-3' }, '')).rejects.toMatchObject({
          status: 429,
          code: 'rate_limit_exceeded',
        });
        expect(asked).toEqual([]);
        expect(await used('judge-3')).toMatchObject([{ requests: 1 }]);
      } finally {
        await pool.query('delete from rate_limits');
      }
    });
  });

  test('multi: a map, a list, one alone', async () => {
    const near = {
      type: 'text_similarity',
      name: 'near',
      input: '{{sample.output_text}}',
      reference: 'abcd',
      evaluation_metric: 'fuzzy_match',
    };
    const map = {
      type: 'multi',
      graders: { same: { ...equal, name: undefined }, near },
      calculate_output: 'same * 0.5 + near * 0.5',
    };
    expect(await run(map, 'abcd', { label: 'x' })).toMatchObject({
      reward: 0.5,
      sub_rewards: { same: 0, near: 1 },
      metadata: { name: 'multi', scores: { same: 0, near: 1 } },
    });
    expect(await run({ ...map, name: 'm', graders: [equal, near] }, 'abcd', { label: 'abcd' })).toMatchObject(
      { reward: 1 },
    );
    expect(await run({ ...map, graders: near, calculate_output: '1 - near' }, 'abcd')).toMatchObject({
      reward: 0,
    });
  });

  test('what the sample does not have is told', async () => {
    const { metadata } = await run({ ...equal, input: '{{sample.output_json.a}}' }, 'no JSON', {
      label: 'x',
    });
    expect(metadata.errors).toMatchObject({ sample_parse_error: true, invalid_variable_error: false });
  });
});

describe('validate', () => {
  test('gives the grader back', async () => {
    expect(await validate(equal)).toEqual({ grader: equal });
    expect(await validate({ type: 'python', source: 'def grade(s, i): return 1' })).toMatchObject({
      grader: { name: 'python' },
    });
  });

  test.each([
    ['grader.type', 'invalid_value', { ...equal, type: 'spell_check' }],
    ['grader.type', 'missing_required_parameter', { ...equal, type: undefined }],
    ['grader.operation', 'invalid_value', { ...equal, operation: 'neq' }],
    ['grader.operatoin', 'unknown_parameter', { ...equal, operatoin: 'eq' }],
    ['grader.name', 'missing_required_parameter', { ...equal, name: undefined }],
    ['grader.input', 'invalid_value', { ...equal, input: '{{env.KEY}}' }],
    ['grader.source', 'missing_required_parameter', { type: 'python', name: 'p' }],
    [
      'grader.input[0].role',
      'invalid_value',
      { type: 'score_model', name: 's', model: 'm', input: [{ role: 'tool', content: 'x' }] },
    ],
    [
      'grader.tools',
      'unknown_parameter',
      {
        type: 'score_model',
        name: 's',
        model: 'm',
        input: [{ role: 'user', content: 'x' }],
        tools: [{ type: 'web_search' }],
      },
    ],
    [
      'grader.graders[0].operation',
      'invalid_value',
      { type: 'multi', name: 'm', graders: [{ ...equal, operation: 'x' }], calculate_output: 'same' },
    ],
    [
      'grader.graders.a.reference',
      'missing_required_parameter',
      { type: 'multi', name: 'm', graders: { a: { ...equal, reference: undefined } }, calculate_output: 'a' },
    ],
    [
      'grader.graders[0].type',
      'invalid_value',
      {
        type: 'multi',
        name: 'm',
        graders: [{ type: 'multi', name: 'n', graders: [equal], calculate_output: 'same' }],
        calculate_output: 'n',
      },
    ],
    [
      'grader.calculate_output',
      'invalid_value',
      { type: 'multi', name: 'm', graders: [equal], calculate_output: 'same + other' },
    ],
  ])('%s: %s', async (param, code, grader) => {
    await expect(validate(grader)).rejects.toMatchObject({ status: 400, param, code });
  });

  test('a model that is not here, where no other API is configured; one that is', async () => {
    const judge = { type: 'score_model', name: 'j', model: 'gpt-5', input: [{ role: 'user', content: 'x' }] };
    await expect(validate(judge, bare)).rejects.toMatchObject({
      status: 404,
      code: 'model_not_found',
      param: 'grader.model',
    });
    expect(await validate({ ...judge, model: BASE_MODEL }, bare)).toBeTruthy();
    expect(await validate(judge)).toBeTruthy();
  });

  describe('a model that answers no questions', () => {
    const judges = {
      score_model: { type: 'score_model', name: 'j', input: [{ role: 'user', content: 'x' }] },
      label_model: {
        type: 'label_model',
        name: 'l',
        input: [{ role: 'user', content: 'x' }],
        labels: ['a', 'b'],
        passing_labels: ['a'],
      },
    };
    const refusal = (model: string, param: string) => ({
      status: 400,
      type: 'invalid_request_error',
      code: 'unsupported_value',
      param,
      message: expect.stringContaining(`Invalid '${param}': \`${model}\` answers with `),
    });
    const add = async (id: string, architecture: string, answers: 'classes' | 'vectors' | undefined) =>
      upsertBaseModel(server.deps.pool, { id, architecture, answers, ownedBy: 'test', files: [] });
    beforeAll(async () => {
      await add('an-encoder', 'bert', 'vectors');
      await add('an-old-encoder', 'bert', undefined);
      await add('a-classifier', 'llama', 'classes');
    });

    test.each(['an-encoder', 'an-old-encoder', 'a-classifier'])('is no judge: %s', async model => {
      for (const judge of Object.values(judges)) {
        const grader = { ...judge, model };
        await expect(validate(grader)).rejects.toMatchObject(refusal(model, 'grader.model'));
        await expect(run(grader, '')).rejects.toMatchObject(refusal(model, 'grader.model'));
        const made = server.client.evals.create({
          data_source_config: { type: 'custom', item_schema: { type: 'object' } },
          testing_criteria: [equal, grader] as never,
        });
        await expect(made).rejects.toMatchObject(refusal(model, 'testing_criteria[1].model'));
      }
      const multi = {
        type: 'multi',
        name: 'm',
        graders: { good: { ...judges.score_model, model } },
        calculate_output: 'good',
      };
      const job = server.client.fineTuning.jobs.create({
        model: BASE_MODEL,
        training_file: 'file-a',
        validation_file: 'file-b',
        method: { type: 'reinforcement', reinforcement: { grader: multi as never } },
      });
      const param = 'method.reinforcement.grader.graders.good.model';
      await expect(job).rejects.toMatchObject(refusal(model, param));
    });

    test('is not asked for answers by a run, unless it tells classes', async () => {
      const { id } = await server.client.evals.create({
        data_source_config: { type: 'custom', item_schema: { type: 'object' } },
        testing_criteria: [equal],
      });
      const start = (model: string) =>
        server.client.evals.runs.create(id, {
          data_source: {
            type: 'completions',
            model,
            source: { type: 'file_content', content: [{ item: {} }] },
            input_messages: { type: 'template', template: [{ role: 'user', content: 'x' }] },
          },
        });
      await expect(start('an-encoder')).rejects.toMatchObject(refusal('an-encoder', 'data_source.model'));
      expect(await start('a-classifier')).toMatchObject({ status: 'queued' });
    });
  });

  test('cosine where nothing makes embeddings', async () => {
    const grader = { ...equal, type: 'text_similarity', operation: undefined, evaluation_metric: 'cosine' };
    await expect(validate(grader, bare)).rejects.toMatchObject({
      status: 400,
      param: 'grader.evaluation_metric',
    });
  });
});
