// Sharing a fine-tuned model with another project, through the official client's administration.
import OpenAI from 'openai';
import { beforeAll, beforeEach, expect, test } from 'vitest';
import { insertModel } from '../../src/store/models.ts';
import { insertProject } from '../../src/store/projects.ts';
import { BASE_MODEL, useServer } from '../support/server.ts';

const server = useServer();
const fineTuned = `ft:${BASE_MODEL}:personal:${'x'.repeat(64)}:a1B2c3D4`;
const checkpoint = `${fineTuned}:ckpt-step-3`;
let permissions: OpenAI['fineTuning']['checkpoints']['permissions'];
let otherId = '';

beforeAll(async () => {
  const admin = new OpenAI({
    adminAPIKey: server.adminKey,
    apiKey: server.adminKey,
    baseURL: `${server.url}/v1`,
    maxRetries: 0,
  });
  permissions = admin.fineTuning.checkpoints.permissions;
  const { rows } = await server.database.pool.query(`select id from projects where name = 'other'`);
  otherId = rows[0].id;
  for (const id of [fineTuned, checkpoint]) {
    await insertModel(server.database.pool, {
      id,
      projectId: server.projectId,
      kind: 'adapter',
      architecture: 'llama',
      baseModel: BASE_MODEL,
      jobId: null,
      step: null,
      ownedBy: 'personal',
      files: [],
    });
  }
});
beforeEach(() => server.database.pool.query('delete from model_permissions'));

const share = async (projectIds = [otherId], model = checkpoint) =>
  (await permissions.create(model, { project_ids: projectIds })).data;
const seen = async () => (await server.otherClient.models.list()).data.map(({ id }) => id);
const unknown = { status: 404, code: 'model_not_found' };

test('a shared model is seen and used by the other project, until it is shared no longer', async () => {
  const use = async () => {
    const file = new File(['{}\n'], 'a.jsonl');
    const { id } = await server.otherClient.files.create({ file, purpose: 'fine-tune' });
    return server.otherClient.fineTuning.jobs.create({ model: checkpoint, training_file: id });
  };
  expect(await seen()).toEqual([BASE_MODEL]);
  await expect(use()).rejects.toMatchObject(unknown);

  const [permission] = await share();
  expect(permission).toEqual({
    id: expect.stringMatching(/^cp_[A-Za-z0-9]{24}$/),
    object: 'checkpoint.permission',
    created_at: expect.any(Number),
    project_id: otherId,
  });
  expect(await seen()).toEqual([BASE_MODEL, checkpoint]);
  expect((await server.otherClient.models.retrieve(checkpoint)).id).toBe(checkpoint);
  expect((await use()).model).toBe(checkpoint);

  expect(await permissions.delete(permission!.id, { fine_tuned_model_checkpoint: checkpoint })).toEqual({
    id: permission!.id,
    object: 'checkpoint.permission',
    deleted: true,
  });
  expect(await seen()).toEqual([BASE_MODEL]);
  await expect(use()).rejects.toMatchObject(unknown);
});

test('a model that is shared is not deleted by whom it is shared with', async () => {
  await share();
  await expect(server.otherClient.models.delete(checkpoint)).rejects.toMatchObject({
    status: 403,
    code: 'permission_denied',
  });
  expect(await seen()).toContain(checkpoint);
});

test('sharing again changes nothing and is not noted again', async () => {
  const [first] = await share();
  expect(await share()).toEqual([first]);
  const { data } = await server.admin.auditLogs.list({ resource_ids: [first!.id] });
  expect(data).toMatchObject([
    {
      type: 'checkpoint.permission.created',
      'checkpoint.permission.created': {
        id: first!.id,
        data: { project_id: otherId, fine_tuned_model_checkpoint: checkpoint },
      },
    },
  ]);
});

test('lists in pages and of one project, in either order', async () => {
  const ids = [otherId];
  for (const name of ['a', 'b', 'c']) ids.push((await insertProject(server.database.pool, { name })).id);
  for (const id of ids) await share([id]);
  await share([otherId], fineTuned);
  const list = async (query: object) => {
    const found = [];
    for await (const { project_id } of permissions.list(checkpoint, query)) found.push(project_id);
    return found;
  };
  expect(await list({ limit: 3 })).toEqual(ids.toReversed());
  expect(await list({ limit: 3, order: 'ascending' })).toEqual(ids);
  expect(await list({ project_id: ids[2] })).toEqual([ids[2]]);
});

test('what cannot be shared is said', async () => {
  await expect(share([otherId], 'ft:none')).rejects.toMatchObject(unknown);
  await expect(share([otherId], BASE_MODEL)).rejects.toMatchObject({
    status: 400,
    message: expect.stringContaining('base model'),
  });
  await expect(share([otherId, 'proj_none'])).rejects.toMatchObject({ status: 404, param: 'project_ids' });
  await expect(share([])).rejects.toMatchObject({ status: 400, param: 'project_ids' });
  expect((await permissions.list(checkpoint)).data).toEqual([]);
  const gone = permissions.delete('cp_none', { fine_tuned_model_checkpoint: checkpoint });
  await expect(gone).rejects.toMatchObject({ status: 404, param: 'permission_id' });
});

test('needs an admin key', async () => {
  const path = `/fine_tuning/checkpoints/${checkpoint}/permissions`;
  await expect(server.client.get(path)).rejects.toMatchObject({ status: 403 });
  await expect(server.client.post(path, { body: { project_ids: [otherId] } })).rejects.toMatchObject({
    status: 403,
  });
});

test('an Idempotency-Key holds for the administration, too', async () => {
  const create = (name: string) =>
    server.admin.projects.create({ name }, { headers: { 'Idempotency-Key': 'project' } });
  const made = await create('once');
  expect(await create('once')).toEqual(made);
  await expect(create('twice')).rejects.toMatchObject({ status: 409, code: 'idempotency_key_reused' });
});
