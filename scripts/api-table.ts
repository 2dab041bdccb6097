// Generates the tables of docs/api.md on which routes and parameters are supported, from the OpenAPI document and the list of
// unsupported ones. The rest of that page is written by hand.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { unservedAdministration, unservedRoutes } from '../src/routes/unserved.ts';

const PAGE = join(import.meta.dirname, '../docs/api.md');
const DOCUMENT = join(import.meta.dirname, '../openapi/openapi.json');
const BEGIN = '<!-- npm run openapi writes what follows -->';
const END = '<!-- until here -->';

interface Schema {
  $ref?: string;
  description?: string;
  properties?: Record<string, Schema>;
}

interface Operation {
  tags: string[];
  parameters?: { name: string; in: string; description?: string }[];
  requestBody?: { content: Record<string, { schema: Schema }> };
}

export interface ApiDocument {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Schema> };
}

type Fate = 'served' | 'ignored' | 'refused';

/** Prefix of a parameter's description -> how the parameter is treated. */
const FATES: [RegExp, Fate][] = [
  [/^No effect/, 'ignored'],
  [/^Not supported/, 'refused'],
];

interface Parameter {
  name: string;
  description?: string;
}

/** The page with up-to-date tables. */
export function withTables(page: string, document: ApiDocument): string {
  const [before, after] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (before < 0 || after < 0) throw new Error(`${PAGE} has no place for the tables`);
  const tables = [servedTable(document), unservedTable()].join('\n\n');
  return `${page.slice(0, before)}${BEGIN}\n\n${tables}\n\n${page.slice(after)}`;
}

function servedTable(document: ApiDocument): string {
  const routes = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => rowOf(document, method, path, operation)),
  );
  return ['| route | served | without effect | refused |', '|---|---|---|---|', ...routes].join('\n');
}

function rowOf(document: ApiDocument, method: string, path: string, operation: Operation): string {
  const parameters = parametersOf(document, operation);
  const cells = (['served', 'ignored', 'refused'] as const).map(fate =>
    parameters
      .filter(parameter => fateOf(parameter) === fate)
      .map(({ name }) => `\`${name}\``)
      .join(', '),
  );
  return `| ${[`\`${method.toUpperCase()} ${path}\``, ...cells].join(' | ')} |`;
}

/** Query and body parameters. Omits `Idempotency-Key`, which all POST routes accept. */
function parametersOf(document: ApiDocument, { parameters = [], requestBody }: Operation): Parameter[] {
  const query = parameters.filter(({ in: place }) => place === 'query');
  const bodies = Object.values(requestBody?.content ?? {}).map(({ schema }) => resolve(document, schema));
  const fields = bodies.flatMap(({ properties = {} }) =>
    Object.entries(properties).map(([name, { description }]) => ({ name, description })),
  );
  return [...query, ...fields];
}

function resolve({ components }: ApiDocument, schema: Schema): Schema {
  return schema.$ref ? components.schemas[schema.$ref.split('/').at(-1)!]! : schema;
}

function fateOf({ description = '' }: Parameter): Fate {
  return FATES.find(([begins]) => begins.test(description))?.[1] ?? 'served';
}

function unservedTable(): string {
  const row = (path: string, { what, instead = '' }: (typeof unservedRoutes)[string]) =>
    `| \`${path}\` | ${what} | ${instead} |`;
  return [
    '| not served (404 `not_served`) | what it is | instead |',
    '|---|---|---|',
    ...Object.entries(unservedRoutes).map(([step, about]) => row(`/v1/${step}`, about)),
    ...Object.entries(unservedAdministration).map(([step, about]) =>
      row(`/v1/organization/.../${step}`, about),
    ),
  ].join('\n');
}

if (import.meta.main) {
  const document = JSON.parse(await readFile(DOCUMENT, 'utf8')) as ApiDocument;
  await writeFile(PAGE, withTables(await readFile(PAGE, 'utf8'), document));
}
