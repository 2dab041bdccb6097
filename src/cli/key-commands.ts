// `anneal keys create | list | revoke`. A new key is printed once; the database stores only its hash.
import { type Command, InvalidArgumentError } from 'commander';
import type pg from 'pg';
import { newSecretKey } from '../ids.ts';
import { scopeNames } from '../schemas/scopes.ts';
import { insertAdminKey, listAdminKeys, revokeAdminKey } from '../store/admin-keys.ts';
import { insertApiKey, listApiKeys, revokeApiKey } from '../store/api-keys.ts';
import { appendAuditLog, commandLine } from '../store/audit-logs.ts';
import { inTransaction } from '../store/database.ts';
import { ensureDefaultProject, findProject, insertProject } from '../store/projects.ts';
import type { CommandContext } from './context.ts';
import { printTable } from './table.ts';

interface CreateOptions {
  name: string;
  project?: string;
  admin?: boolean;
  scopes?: string[];
  expiresInDays?: number;
}

const SECONDS_A_DAY = 86_400;
const MOST_ADMIN_KEYS = 1000;

export function addKeyCommands(program: Command, context: CommandContext): void {
  const keys = program.command('keys').description('manage API keys');
  const onDatabase = (work: (pool: pg.Pool) => Promise<void>) =>
    context.run(config => context.withDatabase(config, ({ pool }) => work(pool)));

  keys
    .command('create')
    .description('create a key and print it; it is shown only once')
    .option('--name <name>', 'description of the key', 'key')
    .option(
      '--project <name>',
      'create the key in a new project of this name, or in the existing project proj_...; default: proj_default',
    )
    .option('--admin', 'create an admin key (for /v1/organization) instead of a project key')
    .option(
      '--scopes <list>',
      `comma-separated list; without it the key may do everything in its project. Known: ${scopeNames.join(', ')}`,
      readScopes,
    )
    .option('--expires-in-days <days>', 'days until it expires', readDays)
    .action((options: CreateOptions) => onDatabase(pool => createKey(pool, options)));

  keys
    .command('list')
    .description('list the valid keys with their ids')
    .action(() => onDatabase(listKeys));

  keys
    .command('revoke <id>')
    .description('revoke a key; takes effect at once')
    .action((id: string) => onDatabase(pool => revokeKey(pool, id)));
}

async function createKey(pool: pg.Pool, options: CreateOptions): Promise<void> {
  if (options.admin && (options.project || options.scopes))
    throw new Error('--admin cannot be combined with --project or --scopes');
  const secret = newSecretKey(options.admin ? 'admin' : 'anneal');
  await inTransaction(pool, tx => (options.admin ? insertAdmin : insertOfProject)(tx, secret, options));
  process.stdout.write(`${secret}\n`);
}

async function insertAdmin(tx: pg.PoolClient, secret: string, options: CreateOptions): Promise<void> {
  const key = (await insertAdminKey(tx, { name: options.name, secret, ...expiryOf(options) }))!;
  await noteCreation(tx, { resourceId: key.id, scopes: [] });
}

async function insertOfProject(tx: pg.PoolClient, secret: string, options: CreateOptions): Promise<void> {
  const { id: projectId } = await projectOf(tx, options.project);
  const { name, scopes = [] } = options;
  const key = (await insertApiKey(tx, { projectId, name, secret, scopes, ...expiryOf(options) }))!;
  await noteCreation(tx, { resourceId: key.id, projectId, scopes });
}

async function projectOf(tx: pg.PoolClient, name: string | undefined): Promise<{ id: string }> {
  if (!name) return ensureDefaultProject(tx);
  if (name.startsWith('proj_')) return findActiveProject(tx, name);
  const project = await insertProject(tx, { name });
  const { id } = project;
  const details = { data: { name, title: name } };
  await appendAuditLog(tx, {
    type: 'project.created',
    actor: commandLine,
    projectId: id,
    resourceId: id,
    details,
  });
  return project;
}

async function findActiveProject(tx: pg.PoolClient, id: string): Promise<{ id: string }> {
  const project = await findProject(tx, id);
  if (project && !project.archivedAt) return project;
  throw new Error(
    `${project ? `project ${id} cannot be used: it is archived` : `there is no project ${id}`}`,
  );
}

function noteCreation(
  tx: pg.PoolClient,
  { scopes, ...key }: { resourceId: string; projectId?: string; scopes: string[] },
): Promise<void> {
  return appendAuditLog(tx, {
    type: 'api_key.created',
    actor: commandLine,
    ...key,
    details: { data: { scopes } },
  });
}

async function listKeys(pool: pg.Pool): Promise<void> {
  const own = (await listApiKeys(pool)).map(key => ({ ...key, rights: key.scopes.join(' ') || 'all' }));
  const { rows } = await listAdminKeys(pool, { limit: MOST_ADMIN_KEYS, order: 'asc' });
  const working = rows.filter(key => !key.expiresAt || key.expiresAt > new Date());
  const admin = working.map(key => ({ ...key, project: '', rights: 'administration' }));
  const lines = [...own, ...admin].map(key => [
    key.id,
    key.hint,
    key.name,
    key.project,
    key.rights,
    dayOf(key.createdAt),
    key.lastUsedAt ? dayOf(key.lastUsedAt) : 'never',
    key.expiresAt ? dayOf(key.expiresAt) : 'never',
  ]);
  const header = ['id', 'key', 'name', 'project', 'scopes', 'created', 'last used', 'expires'];
  process.stdout.write(printTable(header, lines));
}

async function revokeKey(pool: pg.Pool, id: string): Promise<void> {
  await inTransaction(pool, async tx => {
    const projectId = await revokeApiKey(tx, id);
    if (!projectId && !(await revokeAdminKey(tx, id)))
      throw new Error(`there is no key ${id}: see \`anneal keys list\``);
    await appendAuditLog(tx, { type: 'api_key.deleted', actor: commandLine, projectId, resourceId: id });
  });
}

const dayOf = (date: Date): string => date.toISOString().slice(0, 10);

const expiryOf = ({ expiresInDays }: CreateOptions) => ({
  expiresInSeconds: expiresInDays === undefined ? null : expiresInDays * SECONDS_A_DAY,
});

function readScopes(text: string): string[] {
  const scopes = text.split(',').map(scope => scope.trim());
  const unknown = scopes.find(scope => !scopeNames.includes(scope));
  if (unknown !== undefined)
    throw new InvalidArgumentError(`'${unknown}' is not one of ${scopeNames.join(', ')}`);
  return scopes;
}

function readDays(text: string): number {
  const days = Number(text);
  if (!/^\d+$/.test(text) || days < 1 || days > 3650)
    throw new InvalidArgumentError('must be a whole number from 1 to 3650');
  return days;
}
