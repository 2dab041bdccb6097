// A stateless client of a Weights & Biases server, with the requests of its official client: GraphQL creates a run (`upsertBucket`), and
// `file_stream` writes lines of its history at an offset, so that repeated requests have no effect.

export interface WandbServer {
  /** Without a trailing slash. */
  baseUrl: string;
  apiKey: string;
}

export interface WandbRun {
  /** Unique within the project. */
  id: string;
  project: string;
  /** Null: the default entity of the API key. */
  entity: string | null;
  displayName: string;
  tags: string[];
  config: Record<string, unknown>;
}

/** The names of the run as the server returned them. */
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

/** Creates the run or updates its configuration. Throws with the server's message. */
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
  /** Number of lines that were sent before. */
  offset: number;
  lines: Record<string, unknown>[];
  /** Set when the run is complete. */
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
    redirect: 'error', // the API key must only be sent to the configured server
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${response.status} ${text.slice(0, 200)}`.trim());
  return text === '' ? {} : JSON.parse(text);
}
