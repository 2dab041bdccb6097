import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { useServer } from '../support/server.ts';

const root = join(import.meta.dirname, '../..');
const server = useServer();

interface Media {
  example?: unknown;
  schema: { $ref?: string };
}

interface Operation {
  operationId: string;
  summary: string;
  description: string;
  tags: string[];
  security?: unknown[];
  parameters?: { name: string; description?: string }[];
  requestBody?: { content: Record<string, Media> };
  responses: Record<string, { description: string; content?: Record<string, Media> }>;
}

const operations = (): [string, Operation][] =>
  Object.entries(server.app.swagger().paths as unknown as Record<string, Record<string, Operation>>).flatMap(
    ([path, methods]) =>
      Object.entries(methods).map(([method, operation]): [string, Operation] => [
        `${method} ${path}`,
        operation,
      ]),
  );

test('openapi/openapi.json is what the routes say: `npm run openapi` writes it', async () => {
  const committed = JSON.parse(await readFile(join(root, 'openapi/openapi.json'), 'utf8'));
  expect(JSON.parse(JSON.stringify(server.app.swagger()))).toEqual(committed);
});

test('redocly finds nothing wrong with it', async () => {
  const redocly = join(root, 'node_modules/.bin/redocly');
  const { stdout, stderr } = await promisify(execFile)(
    process.execPath,
    [redocly, 'lint', 'openapi/openapi.json'],
    { cwd: root },
  ).catch(error => error);
  expect(`${stdout}${stderr}`).toContain('Your API description is valid');
  expect(`${stdout}${stderr}`).not.toMatch(/warning/i);
}, 60_000);

test('every operation has an id of its own, words, and the errors that any may answer', () => {
  const ids = operations().map(([, { operationId }]) => operationId);
  expect(ids.length).toBeGreaterThan(15);
  expect(new Set(ids).size).toBe(ids.length);
  for (const [name, operation] of operations()) {
    expect(operation.summary, name).toBeTruthy();
    expect(operation.description, name).toBeTruthy();
    expect(operation.tags, name).toHaveLength(1);
    for (const parameter of operation.parameters ?? [])
      expect(parameter.description, `${name} ${parameter.name}`).toBeTruthy();
    if (operation.security?.length === 0) continue;
    expect(Object.keys(operation.responses), name).toEqual(expect.arrayContaining(['401', '500']));
  }
});

test('every body has an example, on the way in and on the way out', () => {
  const { components } = server.app.swagger() as unknown as {
    components: { schemas: Record<string, { examples?: unknown }> };
  };
  const hasExample = ({ example, schema }: Media) =>
    example !== undefined || components.schemas[schema.$ref?.split('/').at(-1) ?? '']?.examples !== undefined;
  for (const [name, operation] of operations()) {
    const bodies = [operation.requestBody, ...Object.values(operation.responses)].filter(
      body => body?.content,
    );
    for (const body of bodies) expect(Object.values(body!.content!).some(hasExample), name).toBe(true);
  }
});
