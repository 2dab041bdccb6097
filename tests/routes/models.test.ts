import { beforeAll, expect, test } from 'vitest';
import { insertModel } from '../../src/store/models.ts';
import { BASE_MODEL, useServer } from '../support/server.ts';

const server = useServer();
const suffix = 'x'.repeat(64);
const fineTuned = `ft:${BASE_MODEL}:personal:${suffix}:a1B2c3D4`;
const checkpoint = `${fineTuned}:ckpt-step-1234567`;

beforeAll(async () => {
  for (const [id, key] of [
    [fineTuned, 'models/a/adapter'],
    [checkpoint, 'models/b/adapter'],
  ] as const) {
    await server.deps.blobs.put(key, Buffer.from(id));
    await server.deps.blobs.put('models/shared', Buffer.from('both use it')).catch(() => undefined);
    const files = [key, 'models/shared'].map(one => ({ path: one, key: one, bytes: 1, sha256: '0' }));
    await insertModel(server.database.pool, {
      id,
      projectId: server.projectId,
      kind: 'adapter',
      architecture: 'llama',
      baseModel: BASE_MODEL,
      jobId: null,
      step: null,
      ownedBy: 'personal',
      files,
    });
  }
});

test('lists base models and own ones', async () => {
  const ids = async (client = server.client) => (await client.models.list()).data.map(model => model.id);
  expect(await ids()).toEqual([BASE_MODEL, fineTuned, checkpoint]);
  expect(await ids(server.otherClient)).toEqual([BASE_MODEL]);
});

test('finds names that are longer than 100 characters, with their colons', async () => {
  expect(checkpoint.length).toBeGreaterThan(100);
  expect(await server.client.models.retrieve(checkpoint)).toEqual({
    id: checkpoint,
    object: 'model',
    created: expect.any(Number),
    owned_by: 'personal',
  });
  expect(await server.client.models.retrieve(BASE_MODEL)).toMatchObject({ id: BASE_MODEL, owned_by: 'test' });
});

test("a model that is not there, or another project's, is unknown", async () => {
  const unknown = {
    status: 404,
    code: 'model_not_found',
    message: expect.stringContaining('does not exist or you do not have access'),
  };
  await expect(server.client.models.retrieve('gpt-9')).rejects.toMatchObject(unknown);
  await expect(server.otherClient.models.retrieve(fineTuned)).rejects.toMatchObject(unknown);
  await expect(server.otherClient.models.delete(fineTuned)).rejects.toMatchObject(unknown);
});

test('base models stay', async () => {
  await expect(server.client.models.delete(BASE_MODEL)).rejects.toMatchObject({
    status: 403,
    code: 'permission_denied',
  });
});

test('deletes a fine-tuned model and its objects, but none that another model uses', async () => {
  expect(await server.client.models.delete(fineTuned)).toEqual({
    id: fineTuned,
    object: 'model',
    deleted: true,
  });
  await expect(server.client.models.retrieve(fineTuned)).rejects.toMatchObject({ status: 404 });
  await expect(server.client.models.delete(fineTuned)).rejects.toMatchObject({ status: 404 });
  expect(await server.deps.blobs.size('models/a/adapter')).toBeNull();
  expect(await server.deps.blobs.size('models/shared')).toBe(11);
  await server.client.models.delete(checkpoint);
  expect(await server.deps.blobs.size('models/shared')).toBeNull();
});
