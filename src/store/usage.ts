// Usage of requests, aggregated by minute, project, key and model. SQL only. Usage of training is read from the jobs.
import type { Queryable } from './database.ts';

export const usageKinds = ['completions', 'embeddings', 'classifications', 'moderations'] as const;
export type UsageKind = (typeof usageKinds)[number];

/** Dimensions of usage. */
export interface UsageLabels {
  kind: UsageKind;
  projectId: string;
  apiKeyId: string;
  /** Name as in the request. */
  model: string;
  batch: boolean;
}

export interface UsageCounts {
  requests: number;
  /** Including cached ones. */
  inputTokens: number;
  cachedTokens: number;
  outputTokens: number;
}

export type UsageRow = UsageLabels & UsageCounts & { minute: Date };

const labelsInOrder = ['minute', 'kind', 'projectId', 'apiKeyId', 'model', 'batch'] as const;

/** Adds to the stored counts. Rows are sorted by primary key, so that concurrent writers cannot deadlock. */
export async function addUsage(db: Queryable, rows: readonly UsageRow[]): Promise<void> {
  const key = (row: UsageRow) => labelsInOrder.map(label => String(row[label])).join('\n');
  const ordered = rows.toSorted((a, b) => (key(a) < key(b) ? -1 : 1));
  const column = (name: keyof UsageRow) => ordered.map(row => row[name]);
  await db.query(
    `insert into usage (minute, kind, project_id, api_key_id, model, batch,
       requests, input_tokens, cached_tokens, output_tokens)
     select * from unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[],
       $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[])
     on conflict (minute, kind, project_id, api_key_id, model, batch) do update set
       requests = usage.requests + excluded.requests,
       input_tokens = usage.input_tokens + excluded.input_tokens,
       cached_tokens = usage.cached_tokens + excluded.cached_tokens,
       output_tokens = usage.output_tokens + excluded.output_tokens`,
    [
      ...labelsInOrder.map(column),
      column('requests'),
      column('inputTokens'),
      column('cachedTokens'),
      column('outputTokens'),
    ],
  );
}

/** Merges the minutes before `until` into hours, to bound the table's size. Returns the number of removed rows. */
export async function coarsenUsage(db: Queryable, until: Date): Promise<number> {
  const { rows } = await db.query<{ removed: number }>(
    `with minutes as (
       delete from usage where minute < date_trunc('hour', $1::timestamptz) and minute <> date_trunc('hour', minute)
       returning *),
     hours as (
       insert into usage as hour
       select date_trunc('hour', minute), kind, project_id, api_key_id, model, batch,
         sum(requests), sum(input_tokens), sum(cached_tokens), sum(output_tokens)
       from minutes group by 1, 2, 3, 4, 5, 6
       on conflict (minute, kind, project_id, api_key_id, model, batch) do update set
         requests = hour.requests + excluded.requests,
         input_tokens = hour.input_tokens + excluded.input_tokens,
         cached_tokens = hour.cached_tokens + excluded.cached_tokens,
         output_tokens = hour.output_tokens + excluded.output_tokens)
     select count(*) as removed from minutes`,
    [until],
  );
  return rows[0]!.removed;
}

export interface UsageFilter {
  from: Date;
  /** Exclusive. */
  until: Date;
  widthSeconds: number;
  projectIds?: string[] | undefined;
  apiKeyIds?: string[] | undefined;
  models?: string[] | undefined;
  batch?: boolean | undefined;
}

export const usageGroups = ['projectId', 'apiKeyId', 'model', 'batch'] as const;
export type UsageGroup = (typeof usageGroups)[number];

const groupColumns = {
  projectId: 'project_id',
  apiKeyId: 'api_key_id',
  model: 'model',
  batch: 'batch',
} as const;

/** One row per bucket and group; dimensions that are not grouped by are null. Buckets are aligned to whole UTC minutes, hours or days. */
export type UsageSum = UsageCounts & { start: number } & {
  [Group in UsageGroup]: UsageLabels[Group] | null;
};

const binned = (column: string) =>
  `extract(epoch from date_bin(make_interval(secs => $3), ${column}, 'epoch'))::bigint as start`;

export async function sumUsage(
  db: Queryable,
  kind: UsageKind | null,
  filter: UsageFilter,
  groupBy: readonly UsageGroup[],
): Promise<UsageSum[]> {
  const groups = usageGroups.map(group =>
    groupBy.includes(group) ? groupColumns[group] : `null as ${groupColumns[group]}`,
  );
  const { rows } = await db.query<UsageSum>(
    `select start, project_id as "projectId", api_key_id as "apiKeyId", model, batch, sum(requests)::bigint as requests,
       sum(input_tokens)::bigint as "inputTokens", sum(cached_tokens)::bigint as "cachedTokens",
       sum(output_tokens)::bigint as "outputTokens"
     from (
       select ${binned('minute')}, ${groups.join(', ')}, requests, input_tokens, cached_tokens, output_tokens from usage
       where minute >= $1 and minute < $2 and ($4::text is null or kind = $4)
         and ($5::text[] is null or usage.project_id = any($5)) and ($6::text[] is null or usage.api_key_id = any($6))
         and ($7::text[] is null or usage.model = any($7)) and ($8::boolean is null or usage.batch = $8)) as usage
     group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4, 5`,
    [filter.from, filter.until, filter.widthSeconds, kind, ...filterValues(filter), filter.batch ?? null],
  );
  return rows;
}

function filterValues({ projectIds, apiKeyIds, models }: UsageFilter): (string[] | null)[] {
  return [projectIds ?? null, apiKeyIds ?? null, models ?? null];
}

export interface TrainingSum {
  start: number;
  projectId: string | null;
  /** Key that created the jobs; null also where it is unknown. */
  apiKeyId: string | null;
  /** Model that was fine-tuned. */
  model: string | null;
  jobs: number;
  trainedTokens: number;
}

/** Training usage of succeeded jobs, by the time they finished. */
export async function sumTraining(
  db: Queryable,
  filter: Omit<UsageFilter, 'batch'>,
  groupBy: readonly UsageGroup[],
): Promise<TrainingSum[]> {
  const group = (name: 'projectId' | 'apiKeyId' | 'model') =>
    groupBy.includes(name) ? groupColumns[name] : `null as ${groupColumns[name]}`;
  const { rows } = await db.query<TrainingSum>(
    `select start, project_id as "projectId", api_key_id as "apiKeyId", model, count(*)::bigint as jobs,
       sum(trained_tokens)::bigint as "trainedTokens"
     from (
       select ${binned('finished_at')}, ${group('projectId')}, ${group('apiKeyId')}, ${group('model')}, trained_tokens
       from jobs where trained_tokens is not null and finished_at >= $1 and finished_at < $2
         and ($4::text[] is null or jobs.project_id = any($4)) and ($5::text[] is null or jobs.api_key_id = any($5))
         and ($6::text[] is null or jobs.model = any($6))) as jobs
     group by 1, 2, 3, 4 order by 1, 2, 3, 4`,
    [filter.from, filter.until, filter.widthSeconds, ...filterValues(filter)],
  );
  return rows;
}
