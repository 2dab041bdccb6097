// Eval runs and their output items. SQL only. Leases on runs are in leases.ts.
import { addUsage as addTokens, NO_TOKENS, type TokenUsage } from '../evaluation/graders/grader.ts';
import { newId } from '../ids.ts';
import type { Queryable } from './database.ts';
import type { Eval } from './evals.ts';
import { CONTROL_CHANNEL } from './jobs.ts';
import { toJsonb } from './jsonb.ts';
import { type Page, type PageRequest, placeOf, toPage } from './pages.ts';
import { announce } from './webhook-deliveries.ts';

export type EvalRunStatus = 'queued' | 'in_progress' | 'completed' | 'canceled' | 'failed';

export const ENDED_RUN_STATUSES: readonly EvalRunStatus[] = ['completed', 'canceled', 'failed'];

export interface RunSource {
  type: 'file_content' | 'file_id' | 'stored_completions' | 'responses';
  /** For `file_content`. */
  content?: { item: Record<string, unknown>; sample?: Record<string, unknown> }[];
  /** For `file_id`. */
  id?: string;
  /** The fields below are for `stored_completions` and `responses`. */
  metadata?: Record<string, string> | null;
  model?: string | null;
  created_after?: number | null;
  created_before?: number | null;
  limit?: number | null;
  instructions_search?: string | null;
  temperature?: number | null;
  top_p?: number | null;
  users?: string[] | null;
  tools?: string[] | null;
}

export interface RunDataSource {
  type: 'jsonl' | 'completions' | 'responses';
  source: RunSource;
  model?: string | null;
  input_messages?: InputMessages | null;
  sampling_params?: Record<string, unknown> | null;
}

export type InputMessages =
  | { type: 'template'; template: { role: string; content: unknown }[] }
  | { type: 'item_reference'; item_reference: string };

export interface CriterionResult {
  testing_criteria: string;
  passed: number;
  failed: number;
}

export interface ModelUse extends TokenUsage {
  model_name: string;
  invocation_count: number;
}

export interface RunError {
  code: string;
  message: string;
}

export interface EvalRun {
  id: string;
  evalId: string;
  projectId: string;
  name: string;
  status: EvalRunStatus;
  model: string | null;
  dataSource: RunDataSource;
  metadata: Record<string, string> | null;
  error: RunError | null;
  createdAt: Date;
  /** Key that created the run: usage is recorded for it. */
  apiKeyId: string;
  passed: number;
  failed: number;
  errored: number;
  criteriaResults: CriterionResult[];
  modelUsage: ModelUse[];
}

const columns = `id, eval_id as "evalId", project_id as "projectId", name, status, model, data_source as "dataSource",
  metadata, error, created_at as "createdAt", api_key_id as "apiKeyId", passed, failed, errored, criteria_results as "criteriaResults",
  model_usage as "modelUsage"`;

export interface NewRun {
  apiKeyId: string;
  name: string;
  dataSource: RunDataSource;
  metadata: Record<string, string> | null;
}

export async function insertRun(db: Queryable, of: Eval, run: NewRun): Promise<EvalRun> {
  const results = of.testingCriteria.map(({ name }) => ({ testing_criteria: name, passed: 0, failed: 0 }));
  const { rows } = await db.query<EvalRun>(
    `insert into eval_runs (id, eval_id, project_id, api_key_id, name, model, data_source, metadata, criteria_results)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9) returning ${columns}`,
    [
      newId('evalRun'),
      of.id,
      of.projectId,
      run.apiKeyId,
      run.name,
      run.dataSource.model ?? null,
      toJsonb(run.dataSource),
      run.metadata && toJsonb(run.metadata),
      toJsonb(results),
    ],
  );
  return rows[0]!;
}

export interface RunKey {
  projectId: string;
  evalId: string;
  runId: string;
}

const theRun = 'project_id = $1 and eval_id = $2 and id = $3';
const keyOf = ({ projectId, evalId, runId }: RunKey): string[] => [projectId, evalId, runId];

export async function findRun(db: Queryable, key: RunKey): Promise<EvalRun | null> {
  const { rows } = await db.query<EvalRun>(`select ${columns} from eval_runs where ${theRun}`, keyOf(key));
  return rows[0] ?? null;
}

export interface RunFilter extends PageRequest {
  evalId: string;
  order: 'asc' | 'desc';
  status?: EvalRunStatus | undefined;
}

/** An unknown `after` gives an empty page. */
export async function listRuns(db: Queryable, filter: RunFilter): Promise<Page<EvalRun>> {
  const beyond = filter.order === 'asc' ? '>' : '<';
  const place = placeOf({ table: 'eval_runs', id: '$3', list: '$1', column: 'eval_id' });
  const { rows } = await db.query<EvalRun>(
    `select ${columns} from eval_runs
     where eval_id = $1 and ($2::text is null or status = $2)
       and ($3::text is null or (created_at, id) ${beyond} ${place})
     order by created_at ${filter.order}, id ${filter.order}
     limit $4`,
    [filter.evalId, filter.status ?? null, filter.after ?? null, filter.limit + 1],
  );
  return toPage(rows, filter.limit);
}

/** Null when the run does not exist or has ended. Notifies the runners. */
export async function cancelRun(db: Queryable, key: RunKey): Promise<EvalRun | null> {
  const { rows } = await db.query<EvalRun>(
    `update eval_runs set status = 'canceled', finished_at = now()
     where ${theRun} and status in ('queued', 'in_progress')
     returning ${columns}, pg_notify($4, id)`,
    [...keyOf(key), CONTROL_CHANNEL],
  );
  if (rows[0]) await announce(db, { type: 'eval.run.canceled', projectId: key.projectId, id: key.runId });
  return rows[0] ?? null;
}

/** A runner that works on it loses its lease. */
export async function deleteRun(db: Queryable, key: RunKey): Promise<boolean> {
  const { rowCount } = await db.query(`delete from eval_runs where ${theRun}`, keyOf(key));
  return rowCount === 1;
}

// ---- items

export type ItemStatus = 'pass' | 'fail' | 'error';

export interface OutputItem {
  id: string;
  runId: string;
  createdAt: Date;
  status: ItemStatus;
  itemIndex: number;
  item: Record<string, unknown>;
  results: Record<string, unknown>[];
  sample: Record<string, unknown>;
}

const itemColumns = `id, run_id as "runId", created_at as "createdAt", status, item_index as "itemIndex", item, results, sample`;

export async function findOutputItem(db: Queryable, runId: string, id: string): Promise<OutputItem | null> {
  const { rows } = await db.query<OutputItem>(
    `select ${itemColumns} from eval_output_items where run_id = $1 and id = $2`,
    [runId, id],
  );
  return rows[0] ?? null;
}

export interface ItemFilter extends PageRequest {
  runId: string;
  order: 'asc' | 'desc';
  status?: ItemStatus | undefined;
}

/** In the order of the data source. An unknown `after` gives an empty page. */
export async function listOutputItems(db: Queryable, filter: ItemFilter): Promise<Page<OutputItem>> {
  const beyond = filter.order === 'asc' ? '>' : '<';
  const { rows } = await db.query<OutputItem>(
    `select ${itemColumns} from eval_output_items
     where run_id = $1 and ($2::text is null or status = $2)
       and ($3::text is null or item_index ${beyond} (select item_index from eval_output_items where id = $3 and run_id = $1))
     order by item_index ${filter.order}
     limit $4`,
    [filter.runId, filter.status ?? null, filter.after ?? null, filter.limit + 1],
  );
  return toPage(rows, filter.limit);
}

// ---- what a runner reads and writes

export interface LeasedRun extends EvalRun {
  testingCriteria: Eval['testingCriteria'];
  dataSourceConfig: Eval['dataSourceConfig'];
}

/** Null when it was deleted. */
export async function readLeasedRun(db: Queryable, id: string): Promise<LeasedRun | null> {
  const { rows } = await db.query<LeasedRun>(
    `select ${columns},
       (select testing_criteria from evals where evals.id = eval_runs.eval_id) as "testingCriteria",
       (select data_source_config from evals where evals.id = eval_runs.eval_id) as "dataSourceConfig"
     from eval_runs where id = $1`,
    [id],
  );
  return rows[0] ?? null;
}

/** Indices of the items that an earlier attempt has finished. */
export async function readDoneItems(db: Queryable, runId: string): Promise<Set<number>> {
  const { rows } = await db.query<{ index: number }>(
    'select item_index as index from eval_output_items where run_id = $1',
    [runId],
  );
  return new Set(rows.map(row => row.index));
}

export interface NewOutputItem extends Omit<OutputItem, 'id' | 'runId' | 'createdAt'> {
  /** One for each criterion, in their order. */
  passed: boolean[];
  /** Tokens used by the models that answered and judged it. */
  usage: { model: string; tokens: TokenUsage }[];
}

/** Call inside `fenced`, which locks the run's row. Does nothing when the item is already stored. */
export async function writeOutputItem(db: Queryable, runId: string, made: NewOutputItem): Promise<void> {
  const { rowCount } = await db.query(
    `insert into eval_output_items (id, run_id, status, item_index, item, results, sample)
     values ($1, $2, $3, $4, $5, $6, $7) on conflict (run_id, item_index) do nothing`,
    [
      newId('outputItem'),
      runId,
      made.status,
      made.itemIndex,
      toJsonb(made.item),
      toJsonb(made.results),
      toJsonb(made.sample),
    ],
  );
  if (rowCount === 0) return;
  const { rows } = await db.query<Pick<EvalRun, 'criteriaResults' | 'modelUsage'>>(
    'select criteria_results as "criteriaResults", model_usage as "modelUsage" from eval_runs where id = $1',
    [runId],
  );
  const sums = rows[0]!;
  await db.query(
    `update eval_runs set passed = passed + $2, failed = failed + $3, errored = errored + $4, crashes = 0,
       criteria_results = $5, model_usage = $6
     where id = $1`,
    [
      runId,
      Number(made.status === 'pass'),
      Number(made.status === 'fail'),
      Number(made.status === 'error'),
      toJsonb(countCriteria(sums.criteriaResults, made.passed)),
      toJsonb(made.usage.reduce(addUse, sums.modelUsage)),
    ],
  );
}

function countCriteria(results: readonly CriterionResult[], passed: readonly boolean[]): CriterionResult[] {
  return results.map((result, i) => ({
    ...result,
    passed: result.passed + Number(passed[i] === true),
    failed: result.failed + Number(passed[i] === false),
  }));
}

function addUse(all: ModelUse[], { model, tokens }: NewOutputItem['usage'][number]): ModelUse[] {
  const before = all.find(use => use.model_name === model);
  const sum = {
    model_name: model,
    invocation_count: (before?.invocation_count ?? 0) + 1,
    ...addTokens(before ?? NO_TOKENS, tokens),
  };
  return [...all.filter(use => use !== before), sum];
}

/** Ends the run: `failed` with an error, `completed` without. Call inside `fenced`, or for a run without a lease. */
export async function endRun(
  db: Queryable,
  { id, projectId }: Pick<EvalRun, 'id' | 'projectId'>,
  error: RunError | null,
): Promise<void> {
  await db.query(
    `update eval_runs set status = $2, error = $3, finished_at = now(), runner_id = null, lease_until = null where id = $1`,
    [id, error ? 'failed' : 'completed', error && toJsonb(error)],
  );
  const type = error ? 'eval.run.failed' : 'eval.run.succeeded';
  await announce(db, { type, projectId, id });
}
