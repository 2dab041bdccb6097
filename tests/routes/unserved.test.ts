import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import OpenAI from 'openai';
import { expect, test } from 'vitest';
import { unservedAdministration, unservedRoutes } from '../../src/routes/unserved.ts';
import { useServer } from '../support/server.ts';

const server = useServer();

test('a route of OpenAI that is not served says so, and what to use instead', async () => {
  const failure = await server.client.beta.assistants.create({ model: 'x' }).catch(error => error);
  expect(failure).toBeInstanceOf(OpenAI.NotFoundError);
  expect(failure).toMatchObject({ code: 'not_served', type: 'invalid_request_error', param: null });
  expect(failure.message).toContain('Assistants: not served by this server (POST /v1/assistants)');
  expect(failure.message).toContain('/v1/chat/completions');
});

test.each(Object.keys(unservedRoutes))('/v1/%s, and what lies below it', async step => {
  for (const path of [`/v1/${step}`, `/v1/${step}/a/b?c=d`]) {
    const response = await fetch(server.url + path);
    expect(response.status).toBe(404);
    const { error } = (await response.json()) as { error: { code: string; message: string } };
    expect(error.code).toBe('not_served');
    expect(error.message).toContain(`(GET ${path.split('?')[0]})`);
  }
});

test.each(Object.keys(unservedAdministration))('%s of the organization and of its projects', async step => {
  for (const path of [`/v1/organization/${step}`, `/v1/organization/projects/proj_default/${step}/a`]) {
    const response = await fetch(server.url + path, {
      headers: { authorization: `Bearer ${server.adminKey}` },
    });
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ error: { code: 'not_served' } });
  }
  const served = Object.keys(server.app.swagger().paths!);
  expect(served.filter(path => path.startsWith('/v1/organization') && path.includes(`/${step}`))).toEqual([]);
});

test.each(['/v1/nothing', '/v1', '/v1/constructor', '/audio', '/v2/audio'])(
  '%s is just unknown',
  async path => {
    const response = await fetch(server.url + path);
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ error: { code: 'unknown_url' } });
  },
);

test('no row stands in the way of a route that is served, and the documents list the same', async () => {
  const { paths } = server.app.swagger();
  const served = new Set(Object.keys(paths!).map(path => path.split('/')[2]));
  for (const step of Object.keys(unservedRoutes)) expect(served).not.toContain(step);
  const docs = await readFile(join(import.meta.dirname, '../../docs/api.md'), 'utf8');
  const list = /## Not served\n\n([\s\S]*?)\. Any other/.exec(docs)![1]!.replaceAll(/\s+/g, ' ');
  for (const step of Object.keys(unservedRoutes)) expect(list).toContain(step.replaceAll('_', ' '));
});
