// The first API key: the one that the configuration names, or one that is made when there is none yet.
import pg from 'pg';
import { newSecretKey } from './ids.ts';
import { hasApiKeys, insertApiKey } from './store/api-keys.ts';
import { ensureDefaultProject } from './store/projects.ts';

/** Returns the key that was made, to be shown once; null when nothing had to be made or the caller named it. */
export async function ensureApiKey(databaseUrl: string, named: string | null): Promise<string | null> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const { id: projectId } = await ensureDefaultProject(client);
    if (named) {
      await insertApiKey(client, { projectId, name: 'ANNEAL_API_KEY', secret: named });
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
