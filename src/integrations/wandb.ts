// What is said to a Weights & Biases server, as its own client says it: a run is made by GraphQL (`upsertBucket`), its history is
// appended to as lines at an offset (`file_stream`), so that what is sent twice is there once. No state of its own.

export interface WandbServer {
  /** Without a slash at its end. */
  baseUrl: string;
  apiKey: string;
}

export interface WandbRun {
  /** Unique in its project: the same id is the same run. */
  id: string;
  project: string;
  /** Null: the key's own. */
  entity: string | null;
  displayName: string;
  tags: string[];
  config: Record<string, unknown>;
}

/** Where the run is, in the server's words. */
export interface WandbPlace {
  entity: string;
  project: string;
  id: string;
}

const TIMEOUT_MS = 20_000;

const UPSERT = `mutation UpsertBucket($name: String, $project: String, $entity: String, $displayName: String,
    $config: JSONString, $tags: [String!]) {
  upsertBucket(input: {name: $name, modelName: $project, entityName: $entity, displayName: $displayName,
      config: $config, tags: $tags}) {
    bucket { id name displayName project { name entity { name } } }
    inserted
  }
}`;

interface Upserted {
  upsertBucket: { bucket: { name: string; project: { name: string; entity: { name: string } } } };
}

/** Makes the run, or gives the one that is there its configuration. Throws with what the server said. */
export async function upsertRun(server: WandbServer, run: WandbRun): Promise<WandbPlace> {
  const config = Object.fromEntries(Object.entries(run.config).map(([key, value]) => [key, { value }]));
  const variables = {
    name: run.id,
    project: run.project,
    entity: run.entity,
    displayName: run.displayName,
    config: JSON.stringify(config),
    tags: run.tags,
  };
  const answer = (await post(server, '/graphql', { query: UPSERT, variables })) as {
    data?: Upserted | null;
    errors?: { message: string }[];
  };
  if (!answer.data?.upsertBucket)
    throw new Error(answer.errors?.[0]?.message ?? 'the server made no run and said nothing');
  const { name, project } = answer.data.upsertBucket.bucket;
  return { id: name, project: project.name, entity: project.entity.name };
}

export interface History {
  /** Lines that the server has already. */
  offset: number;
  lines: Record<string, unknown>[];
  /** Once nothing more comes. */
  exitCode: number | null;
}

/** The last line is also the run's summary. */
export async function appendHistory(
  server: WandbServer,
  { entity, project, id }: WandbPlace,
  { offset, lines, exitCode }: History,
): Promise<void> {
  const path = ['files', entity, project, id, 'file_stream'].map(encodeURIComponent).join('/');
  const content = lines.map(line => JSON.stringify(line));
  const files =
    content.length > 0
      ? {
          'wandb-history.jsonl': { offset, content },
          'wandb-summary.json': { offset: 0, content: [content.at(-1)!] },
        }
      : {};
  const end = exitCode === null ? {} : { complete: true, exitcode: exitCode };
  await post(server, `/${path}`, { files, dropped: 0, ...end });
}

async function post({ baseUrl, apiKey }: WandbServer, path: string, body: object): Promise<unknown> {
  const response = await fetch(baseUrl + path, {
    method: 'POST',
    headers: {
      authorization: `Basic ${Buffer.from(`api:${apiKey}`).toString('base64')}`,
      'content-type': 'application/json',
      'user-agent': 'Anneal',
    },
    body: JSON.stringify(body),
    redirect: 'error', // the key goes to the configured server only
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${response.status} ${text.slice(0, 200)}`.trim());
  return text === '' ? {} : JSON.parse(text);
}
