// Evals: data source and testing criteria. SQL only. Their runs are in eval-runs.ts.
import type { SingleGrader } from '../evaluation/graders/grader.ts';
import { newId } from '../ids.ts';
import type { Queryable } from './database.ts';
import { toJsonb } from './jsonb.ts';
import { type Page, type PageRequest, placeOf, toPage } from './pages.ts';

export type EvalDataSourceConfig =
  | { type: 'custom'; item_schema: Record<string, unknown>; include_sample_schema?: boolean }
  | { type: 'logs' | 'stored_completions'; metadata?: Record<string, string> | null };

export interface Eval {
  id: string;
  projectId: string;
  name: string;
  dataSourceConfig: EvalDataSourceConfig;
  testingCriteria: SingleGrader[];
  metadata: Record<string, string> | null;
  createdAt: Date;
}

const columns = `id, project_id as "projectId", name, data_source_config as "dataSourceConfig",
  testing_criteria as "testingCriteria", metadata, created_at as "createdAt"`;

export async function insertEval(db: Queryable, made: Omit<Eval, 'id' | 'createdAt'>): Promise<Eval> {
  const { rows } = await db.query<Eval>(
    `insert into evals (id, project_id, name, data_source_config, testing_criteria, metadata)
     values ($1, $2, $3, $4, $5, $6) returning ${columns}`,
    [
      newId('eval'),
      made.projectId,
      made.name,
      toJsonb(made.dataSourceConfig),
      toJsonb(made.testingCriteria),
      made.metadata && toJsonb(made.metadata),
    ],
  );
  return rows[0]!;
}

export async function findEval(db: Queryable, projectId: string, id: string): Promise<Eval | null> {
  const { rows } = await db.query<Eval>(`select ${columns} from evals where id = $1 and project_id = $2`, [
    id,
    projectId,
  ]);
  return rows[0] ?? null;
}

export interface EvalFilter extends PageRequest {
  projectId: string;
  order: 'asc' | 'desc';
  orderBy: 'created_at' | 'updated_at';
}

/** An unknown `after` gives an empty page. */
export async function listEvals(db: Queryable, filter: EvalFilter): Promise<Page<Eval>> {
  const { order, orderBy } = filter;
  const beyond = order === 'asc' ? '>' : '<';
  const place = placeOf({ table: 'evals', id: '$2', list: '$1', column: 'project_id', by: orderBy });
  const { rows } = await db.query<Eval>(
    `select ${columns} from evals
     where project_id = $1
       and ($2::text is null or (${orderBy}, id) ${beyond} ${place})
     order by ${orderBy} ${order}, id ${order}
     limit $3`,
    [filter.projectId, filter.after ?? null, filter.limit + 1],
  );
  return toPage(rows, filter.limit);
}

/** Undefined fields keep their value. Null when there is no such eval. */
export async function updateEval(
  db: Queryable,
  projectId: string,
  id: string,
  changes: { name?: string | undefined; metadata?: Record<string, string> | null | undefined },
): Promise<Eval | null> {
  const { rows } = await db.query<Eval>(
    `update evals set name = coalesce($3, name), metadata = case when $4 then $5::jsonb else metadata end, updated_at = now()
     where id = $1 and project_id = $2 returning ${columns}`,
    [
      id,
      projectId,
      changes.name ?? null,
      changes.metadata !== undefined,
      changes.metadata ? toJsonb(changes.metadata) : null,
    ],
  );
  return rows[0] ?? null;
}

/** Deletes its runs too; a runner that works on one loses its lease. */
export async function deleteEval(db: Queryable, projectId: string, id: string): Promise<boolean> {
  const { rowCount } = await db.query('delete from evals where id = $1 and project_id = $2', [id, projectId]);
  return rowCount === 1;
}
