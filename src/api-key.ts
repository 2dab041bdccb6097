// The first keys: those that the configuration names, and one that is made when there is none yet.
import pg from 'pg';
import { newSecretKey } from './ids.ts';
import { insertAdminKey } from './store/admin-keys.ts';
import { hasApiKeys, insertApiKey } from './store/api-keys.ts';
import { ensureDefaultProject } from './store/projects.ts';

export interface NamedKeys {
  apiKey: string | null;
  adminKey: string | null;
}

/** Returns the API key that was made, to be shown once; null when none had to be made or the caller named it. */
export async function ensureKeys(databaseUrl: string, named: NamedKeys): Promise<string | null> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    if (named.adminKey) await insertAdminKey(client, { name: 'ANNEAL_ADMIN_KEY', secret: named.adminKey });
    const { id: projectId } = await ensureDefaultProject(client);
    if (named.apiKey) {
      await insertApiKey(client, { projectId, name: 'ANNEAL_API_KEY', secret: named.apiKey });
      return null;
    }
    if (await hasApiKeys(client)) return null;
    const secret = newSecretKey();
    await insertApiKey(client, { projectId, name: 'first', secret });
    return secret;
  } finally {
    await client.end();
  }
}
