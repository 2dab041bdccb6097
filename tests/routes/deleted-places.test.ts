// Pages after a row that was deleted meanwhile: whoever deletes what they list reaches the end of the list.
import OpenAI, { toFile } from 'openai';
import { CursorPage } from 'openai/pagination';
import { describe, expect, test } from 'vitest';
import { exampleStoredCompletion } from '../../src/schemas/stored-completions.ts';
import { insertCompletion } from '../../src/store/chat-completions.ts';
import { upsertBaseModel } from '../../src/store/models.ts';
import { forgetDeletedPlaces } from '../../src/store/pages.ts';
import { insertProject } from '../../src/store/projects.ts';
import { insertResponse, listAnsweredResponses } from '../../src/store/responses.ts';
import { BASE_MODEL, useServer } from '../support/server.ts';

const server = useServer();
const ROWS = 5;
const limit = 2;
const times = <Made>(make: (i: number) => Promise<Made>): Promise<Made[]> =>
  Promise.all(Array.from({ length: ROWS }, (_, i) => make(i)));

/** Deletes each row when the list gives it. Returns how many there were. */
async function deleteAll<Row extends { id: string }>(
  rows: AsyncIterable<Row>,
  remove: (id: string) => Promise<unknown>,
): Promise<number> {
  let deleted = 0;
  for await (const { id } of rows) {
    await remove(id);
    deleted++;
  }
  return deleted;
}

const grader = { type: 'string_check', name: 'a', input: 'a', reference: 'a', operation: 'eq' } as const;
const createEval = () =>
  server.client.evals.create({
    data_source_config: { type: 'custom', item_schema: { type: 'object' } },
    testing_criteria: [grader],
  });

const adminClient = () =>
  new OpenAI({ adminAPIKey: server.adminKey, apiKey: server.adminKey, baseURL: `${server.url}/v1` });

const newFile = async () =>
  server.client.files.create({ file: await toFile(Buffer.from('{}'), 'a.jsonl'), purpose: 'fine-tune' });

describe('to the end of the list of', () => {
  test.each(['asc', 'desc'] as const)('files, %s', async order => {
    await times(newFile);
    const { files } = server.client;
    expect(await deleteAll(files.list({ limit, order }), id => files.delete(id))).toBe(ROWS);
  });

  test('stored chat completions', async () => {
    const { completions } = server.client.chat;
    await times(i =>
      insertCompletion(server.database.pool, {
        id: `chatcmpl-${i}`,
        projectId: server.projectId,
        model: BASE_MODEL,
        metadata: null,
        messages: [],
        completion: { ...exampleStoredCompletion, id: `chatcmpl-${i}` },
      }),
    );
    expect(await deleteAll(completions.list({ limit }), id => completions.delete(id))).toBe(ROWS);
  });

  test.each(['created_at', 'updated_at'] as const)('evaluations by %s', async order_by => {
    const { evals } = server.client;
    const made = await times(createEval);
    await evals.update(made[0]!.id, { name: 'changed last' });
    expect(await deleteAll(evals.list({ limit, order_by }), id => evals.delete(id))).toBe(ROWS);
  });

  test('runs of an evaluation', async () => {
    const { id: eval_id } = await createEval();
    const { runs } = server.client.evals;
    const source = { type: 'file_content' as const, content: [{ item: {} }] };
    await times(() => runs.create(eval_id, { data_source: { type: 'jsonl', source } }));
    expect(await deleteAll(runs.list(eval_id, { limit }), id => runs.delete(id, { eval_id }))).toBe(ROWS);
  });

  test('webhook endpoints', async () => {
    const { client } = server;
    const body = { name: 'a', url: 'https://example.com', event_types: ['batch.completed'] };
    await times(() => client.post('/webhook_endpoints', { body }));
    type Endpoint = { id: string };
    const listed = client.getAPIList<Endpoint, CursorPage<Endpoint>>('/webhook_endpoints', CursorPage, {
      query: { limit },
    });
    expect(await deleteAll(listed, id => client.delete(`/webhook_endpoints/${id}`))).toBe(ROWS);
  });

  test('permissions of a model', async () => {
    const pool = server.database.pool;
    await upsertBaseModel(pool, { id: 'ft:shared', architecture: 'llama', ownedBy: 'test', files: [] });
    await pool.query(`update models set kind = 'full', project_id = $1 where id = 'ft:shared'`, [
      server.projectId,
    ]);
    const project_ids = (await times(() => insertProject(pool, { name: 'reader' }))).map(({ id }) => id);
    const { permissions } = adminClient().fineTuning.checkpoints;
    await permissions.create('ft:shared', { project_ids });
    const remove = (id: string) => permissions.delete(id, { fine_tuned_model_checkpoint: 'ft:shared' });
    expect(await deleteAll(permissions.list('ft:shared', { limit }), remove)).toBe(ROWS);
  });
});

describe('the place of a deleted row', () => {
  const pageAfter = (id: string, client = server.client) => client.files.list({ after: id, order: 'asc' });

  test('is known in its own list only, and for a day', async () => {
    const [gone, next] = [await newFile(), await newFile()];
    await server.client.files.delete(gone.id);
    expect((await pageAfter(gone.id)).data.map(({ id }) => id)).toEqual([next.id]);
    expect((await pageAfter(gone.id, server.otherClient)).data).toEqual([]);

    const { pool } = server.database;
    await pool.query(`update deleted_places set deleted_at = now() - interval '23 hours'`);
    expect(await forgetDeletedPlaces(pool)).toBe(0);
    await pool.query(`update deleted_places set deleted_at = now() - interval '25 hours'`);
    expect(await forgetDeletedPlaces(pool)).toBeGreaterThan(0);
    expect((await pageAfter(gone.id)).data).toEqual([]);
  });

  test('is known to the evaluation that reads stored responses', async () => {
    const { pool } = server.database;
    const { projectId } = server;
    for (const id of ['resp_1', 'resp_2'])
      await insertResponse(pool, {
        id,
        projectId,
        previousId: null,
        status: 'completed',
        background: false,
        input: [],
        response: { output: [] },
      });
    await pool.query(`delete from responses where id = 'resp_1'`);
    const page = {
      projectId,
      after: 'resp_1',
      limit,
      createdAfter: null,
      createdBefore: new Date(Date.now() + 1000),
    };
    expect((await listAnsweredResponses(pool, page)).map(({ id }) => id)).toEqual(['resp_2']);
  });
});
