import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import OpenAI from 'openai';
import { expect, test } from 'vitest';
import { type ApiDocument, withTables } from '../../scripts/api-table.ts';
import { unknownRoute, unservedAdministration, unservedRoutes } from '../../src/routes/unserved.ts';
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
    const response = await fetch(server.url + path, { method: 'POST' });
    expect(response.status).toBe(404);
    const { error } = (await response.json()) as { error: { code: string; message: string } };
    expect(error.code).toBe('not_served');
    expect(error.message).toContain(`(POST ${path.split('?')[0]})`);
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

test('no row stands in the way of a route that is served', () => {
  const served = Object.keys(server.app.swagger().paths!);
  for (const step of Object.keys(unservedRoutes))
    expect(served.filter(path => `${path}/`.startsWith(`/v1/${step}/`))).toEqual([]);
});

/** Method and path of every request that the official client can make; values in the path are `{}`. */
async function routesOfOpenAI(): Promise<string[]> {
  const folder = join(import.meta.dirname, '../../node_modules/openai/resources');
  const files = (await readdir(folder, { recursive: true })).filter(name => name.endsWith('.mjs'));
  const texts = await Promise.all(files.map(name => readFile(join(folder, name), 'utf8')));
  const call =
    /_client\s*\.\s*(get|post|delete|put|patch|getAPIList)\(\s*(?:path\s*`([^`]+)`|['"]([^'"]+)['"])/g;
  const routes = texts.flatMap(text =>
    [...text.matchAll(call)].map(([, method, template, plain]) => {
      const path = (template ?? plain)!.replaceAll(/\$\{[^}]*\}/g, '{}').split('?')[0];
      return `${method === 'getAPIList' ? 'get' : method} /v1${path}`;
    }),
  );
  return [...new Set(routes)];
}

test('whatever the official client can call is served, or answered with what is there instead', async () => {
  const paths = server.app.swagger().paths as Record<string, object>;
  const served = new Set(
    Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map(method => `${method} ${path.replaceAll(/\{[^}]*\}/g, '{}')}`),
    ),
  );
  const routes = await routesOfOpenAI();
  expect(routes.length).toBeGreaterThan(300);
  const rest = routes.filter(route => !served.has(route));
  const kinds = rest.map(route => {
    const [method, path] = route.split(' ');
    return [route, unknownRoute(method!, path!).kind];
  });
  expect(kinds.filter(([, kind]) => kind !== 'not_served')).toEqual([]);
});

test('docs/api.md tells every route and parameter: `npm run openapi` writes it', async () => {
  const page = await readFile(join(import.meta.dirname, '../../docs/api.md'), 'utf8');
  expect(page).toBe(withTables(page, server.app.swagger() as unknown as ApiDocument));
});
