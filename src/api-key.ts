// Creates the initial keys: those in the configuration, and an API key if there is none yet.
import pg from 'pg';
import { newSecretKey } from './ids.ts';
import { insertAdminKey } from './store/admin-keys.ts';
import { hasApiKeys, insertApiKey } from './store/api-keys.ts';
import { appendAuditLog, commandLine } from './store/audit-logs.ts';
import { ensureDefaultProject } from './store/projects.ts';

export interface NamedKeys {
  apiKey: string | null;
  adminKey: string | null;
}

/** Returns the generated API key, to be shown once; null when a key exists or is configured. */
export async function ensureKeys(databaseUrl: string, named: NamedKeys): Promise<string | null> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    if (named.adminKey) await addAdminKey(client, named.adminKey);
    const { id: projectId } = await ensureDefaultProject(client);
    if (named.apiKey) {
      await addApiKey(client, { projectId, name: 'ANNEAL_API_KEY', secret: named.apiKey });
      return null;
    }
    if (await hasApiKeys(client)) return null;
    const secret = newSecretKey();
    await addApiKey(client, { projectId, name: 'first', secret });
    return secret;
  } finally {
    await client.end();
  }
}

async function addAdminKey(client: pg.Client, secret: string): Promise<void> {
  const key = await insertAdminKey(client, { name: 'ANNEAL_ADMIN_KEY', secret });
  if (key) await noteCreation(client, { resourceId: key.id });
}

async function addApiKey(client: pg.Client, key: Parameters<typeof insertApiKey>[1]): Promise<void> {
  const made = await insertApiKey(client, key);
  if (made) await noteCreation(client, { resourceId: made.id, projectId: key.projectId });
}

function noteCreation(client: pg.Client, key: { resourceId: string; projectId?: string }): Promise<void> {
  const details = { data: { scopes: [] } };
  return appendAuditLog(client, { type: 'api_key.created', actor: commandLine, ...key, details });
}
