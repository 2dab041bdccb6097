// Evaluations over HTTP by the official client: made, changed, listed, deleted, and what is refused. Runs are worked on in tests/queue.
import { describe, expect, test } from 'vitest';
import { BASE_MODEL, useServer } from '../support/server.ts';

const server = useServer();

const equal = {
  type: 'string_check',
  name: 'same',
  input: '{{sample.output_text}}',
  reference: '{{item.label}}',
  operation: 'eq',
} as const;
const item_schema = { type: 'object', properties: { label: { type: 'string' } }, required: ['label'] };
const custom = { type: 'custom' as const, item_schema };

const create = (more: object = {}, client = server.client) =>
  client.evals.create({ data_source_config: custom, testing_criteria: [equal], ...more } as never);
const content = (...items: object[]) => ({ type: 'file_content', content: items.map(item => ({ item })) });
const jsonl = { type: 'jsonl', source: content({ label: 'a' }) };
const createRun = (evalId: string, data_source: object) =>
  server.client.evals.runs.create(evalId, { data_source } as never);

describe('an evaluation', () => {
  test('is made with 201, looked at, changed and deleted', async () => {
    const { data, response } = await server.client.evals
      .create({
        name: 'tickets',
        metadata: { team: 'a' },
        data_source_config: { ...custom, include_sample_schema: true },
        testing_criteria: [equal],
      } as never)
      .withResponse();
    expect(response.status).toBe(201);
    expect(data).toMatchObject({
      object: 'eval',
      name: 'tickets',
      metadata: { team: 'a' },
      testing_criteria: [equal],
      data_source_config: {
        type: 'custom',
        schema: {
          properties: { item: item_schema, sample: { type: 'object' } },
          required: ['item', 'sample'],
        },
      },
    });
    expect(data.id).toMatch(/^eval_/);
    expect(await server.client.evals.retrieve(data.id)).toEqual(data);
    const renamed = await server.client.evals.update(data.id, { name: 'calls' });
    expect(renamed).toEqual({ ...data, name: 'calls' });
    expect(await server.client.evals.update(data.id, { metadata: null })).toMatchObject({
      name: 'calls',
      metadata: null,
    });
    expect(await server.client.evals.delete(data.id)).toEqual({
      object: 'eval.deleted',
      deleted: true,
      eval_id: data.id,
    });
    await expect(server.client.evals.retrieve(data.id)).rejects.toMatchObject({
      status: 404,
      param: 'eval_id',
    });
    await expect(server.client.evals.delete(data.id)).rejects.toMatchObject({ status: 404 });
    await expect(server.client.evals.update(data.id, {})).rejects.toMatchObject({ status: 404 });
  });

  test('over logs and stored completions has a schema, too', async () => {
    const made = await create({ data_source_config: { type: 'logs', metadata: { a: 'b' } } });
    expect(made.data_source_config).toMatchObject({
      type: 'logs',
      metadata: { a: 'b' },
      schema: { required: ['item', 'sample'] },
    });
  });

  test('keeps every kind of criterion as it was given', async () => {
    const input = [
      { role: 'developer', content: { type: 'input_text', text: '{{item.label}}' } },
      { role: 'user', content: 'x', type: 'message' },
    ];
    const criteria = [
      equal,
      {
        type: 'text_similarity',
        name: 't',
        input: 'a',
        reference: 'b',
        evaluation_metric: 'rouge_5',
        pass_threshold: 0.5,
      },
      { type: 'label_model', name: 'l', model: BASE_MODEL, input, labels: ['a', 'b'], passing_labels: ['a'] },
      {
        type: 'score_model',
        name: 's',
        model: BASE_MODEL,
        input,
        range: [1, 5],
        pass_threshold: 3,
        sampling_params: { temperature: 0.2, max_completions_tokens: 9 },
      },
      {
        type: 'python',
        name: 'p',
        source: 'def grade(sample, item):\n    return 1.0',
        image_tag: '2025-05-08',
        pass_threshold: 1,
      },
    ];
    expect((await create({ testing_criteria: criteria })).testing_criteria).toEqual(criteria);
  });

  test.each([
    ['testing_criteria', { testing_criteria: [] }],
    ['testing_criteria[0].type', { testing_criteria: [{ ...equal, type: 'multi' }] }],
    ['testing_criteria[1].input', { testing_criteria: [equal, { ...equal, input: '{{items.x}}' }] }],
    [
      'testing_criteria[0].pass_threshold',
      {
        testing_criteria: [
          { type: 'text_similarity', name: 't', input: 'a', reference: 'b', evaluation_metric: 'bleu' },
        ],
      },
    ],
    [
      'testing_criteria[0].model',
      {
        testing_criteria: [
          {
            type: 'label_model',
            name: 'l',
            model: 'gone',
            input: [{ role: 'user', content: 'x' }],
            labels: ['a'],
            passing_labels: ['a'],
          },
        ],
      },
    ],
    ['data_source_config.item_schema', { data_source_config: { type: 'custom' } }],
    [
      'data_source_config.item_schema',
      { data_source_config: { type: 'custom', item_schema: { type: 'objekt' } } },
    ],
    [
      'data_source_config.item_schema',
      { data_source_config: { type: 'custom', item_schema: { $ref: 'http://example.com/x' } } },
    ],
    ['data_source_config.type', { data_source_config: { type: 'csv' } }],
    ['data_source_config', { data_source_config: undefined }],
    ['nmae', { nmae: 'x' }],
  ])('is refused for its %s', async (param, body) => {
    await expect(create(body)).rejects.toMatchObject({ param });
  });

  test('lists by creation and by change, in pages, and nobody else sees them', async () => {
    const made = [];
    for (const name of ['one', 'two', 'three']) made.push(await create({ name, metadata: { list: 'x' } }));
    await server.client.evals.update(made[0]!.id, { name: 'one, later' });
    const ids = made.map(each => each.id);
    const listed = async (query: object) => {
      const found = [];
      for await (const each of server.client.evals.list({ limit: 2, ...query } as never)) found.push(each.id);
      return found.filter(id => ids.includes(id));
    };
    expect(await listed({})).toEqual(ids);
    expect(await listed({ order: 'desc' })).toEqual(ids.toReversed());
    expect(await listed({ order_by: 'updated_at' })).toEqual([ids[1], ids[2], ids[0]]);
    expect(await listed({ after: 'eval_gone' })).toEqual([]);
    const page = await server.client.evals.list({ limit: 1 });
    expect(page).toMatchObject({ has_more: true, data: [{ object: 'eval' }] });
    expect((await server.otherClient.evals.list()).data).toEqual([]);
    await expect(server.otherClient.evals.retrieve(ids[0]!)).rejects.toMatchObject({ status: 404 });
  });
});

describe('a run', () => {
  test('is queued with 201, listed by status, cancelled and deleted', async () => {
    const { id } = await create();
    const { data: run, response } = await server.client.evals.runs
      .create(id, { data_source: jsonl } as never)
      .withResponse();
    expect(response.status).toBe(201);
    expect(run).toMatchObject({
      object: 'eval.run',
      eval_id: id,
      status: 'queued',
      report_url: `${server.url}/v1/evals/${id}/runs/${run.id}`,
      result_counts: { total: 0, errored: 0, failed: 0, passed: 0 },
      per_testing_criteria_results: [{ testing_criteria: 'same', passed: 0, failed: 0 }],
      per_model_usage: [],
      data_source: jsonl,
      metadata: null,
    });
    const second = await createRun(id, jsonl);
    await server.client.evals.runs.cancel(second.id, { eval_id: id });
    const list = async (query: object) =>
      (await server.client.evals.runs.list(id, query as never)).data.map(each => each.id);
    expect(await list({})).toEqual([run.id, second.id]);
    expect(await list({ status: 'canceled' })).toEqual([second.id]);
    expect(await list({ order: 'desc', limit: 1 })).toEqual([second.id]);
    expect(await list({ after: run.id })).toEqual([second.id]);
    expect((await server.client.evals.runs.outputItems.list(run.id, { eval_id: id })).data).toEqual([]);
    expect(await server.client.evals.runs.delete(run.id, { eval_id: id })).toEqual({
      object: 'eval.run.deleted',
      deleted: true,
      run_id: run.id,
    });
    await expect(server.client.evals.runs.retrieve(run.id, { eval_id: id })).rejects.toMatchObject({
      status: 404,
      param: 'run_id',
    });
    const other = await create();
    await expect(server.client.evals.runs.retrieve(second.id, { eval_id: other.id })).rejects.toMatchObject({
      status: 404,
    });
    await expect(server.otherClient.evals.runs.list(id)).rejects.toMatchObject({ status: 404 });
    await expect(server.otherClient.evals.runs.cancel(second.id, { eval_id: id })).rejects.toMatchObject({
      status: 404,
    });
    await expect(
      server.client.evals.runs.outputItems.retrieve('outputitem_x', { eval_id: id, run_id: second.id }),
    ).rejects.toMatchObject({ status: 404, param: 'output_item_id' });
  });

  test('tells webhook endpoints that it was cancelled', async () => {
    await server.deps.pool.query(
      `insert into webhook_endpoints (id, project_id, name, url, event_types, secret) values ('whe_t', $1, 't', 'https://example.com', '{eval.run.canceled}', 'whsec_x')`,
      [server.projectId],
    );
    const { id } = await create();
    const run = await createRun(id, jsonl);
    await server.client.evals.runs.cancel(run.id, { eval_id: id });
    const { rows } = await server.deps.pool.query(
      `select event_type, data from webhook_deliveries where endpoint_id = 'whe_t'`,
    );
    expect(rows).toEqual([{ event_type: 'eval.run.canceled', data: { id: run.id } }]);
  });

  const input_messages = { type: 'template', template: [{ role: 'user', content: '{{item.label}}' }] };
  const completions = {
    type: 'completions',
    model: BASE_MODEL,
    source: content({ label: 'a' }),
    input_messages,
  };
  test.each([
    [
      'data_source.source.content[1].item',
      { type: 'jsonl', source: content({ label: 'a' }, { lable: 'b' }) },
    ],
    ['data_source.source.content', { type: 'jsonl', source: { type: 'file_content', content: [] } }],
    ['data_source.source.id', { type: 'jsonl', source: { type: 'file_id', id: 'file-gone' } }],
    ['data_source.source.type', { type: 'jsonl', source: { type: 'stored_completions' } }],
    ['data_source.type', { ...jsonl, type: 'csv' }],
    ['data_source.model', { ...completions, model: 'gone' }],
    ['data_source.model', { ...completions, model: undefined }],
    ['data_source.input_messages', { ...completions, input_messages: undefined }],
    [
      'data_source.input_messages.template[0].content',
      {
        ...completions,
        input_messages: { type: 'template', template: [{ role: 'user', content: '{{sample.output_text}}' }] },
      },
    ],
    [
      'data_source.input_messages.item_reference',
      { ...completions, input_messages: { type: 'item_reference', item_reference: 'the item' } },
    ],
    ['data_source.sampling_params.temperature', { ...completions, sampling_params: { temperature: 3 } }],
    [
      'data_source.sampling_params.tools[0]',
      { ...completions, sampling_params: { tools: [{ type: 'web_search' }] } },
    ],
  ])('is refused for its %s', async (param, dataSource) => {
    const { id } = await create();
    await expect(createRun(id, dataSource)).rejects.toMatchObject({ param });
  });

  test('a schema whose pattern backtracks for ever does not stop the server', async () => {
    const { id } = await create({
      data_source_config: {
        type: 'custom',
        item_schema: { properties: { label: { type: 'string', pattern: '^(a+)+$' } } },
      },
    });
    const began = Date.now();
    await expect(
      createRun(id, { type: 'jsonl', source: content({ label: `${'a'.repeat(40)}!` }) }),
    ).rejects.toMatchObject({ status: 400, message: expect.stringContaining('takes too long') });
    expect(Date.now() - began).toBeLessThan(5000);
    expect(await createRun(id, { type: 'jsonl', source: content({ label: 'aaa' }) })).toMatchObject({
      status: 'queued',
    });
  });
});
