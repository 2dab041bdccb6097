// Stored chat completions with the messages of their requests. SQL only.
import type { Queryable } from './database.ts';
import { toJsonb } from './jsonb.ts';
import { type Page, type PageRequest, placeOf, toPage } from './pages.ts';

export interface StoredCompletion {
  id: string;
  projectId: string;
  model: string;
  metadata: Record<string, string> | null;
  /** The request's messages, unchanged. */
  messages: Record<string, unknown>[];
  /** The response as it was sent. */
  completion: Record<string, unknown>;
  createdAt: Date;
}

const columns = `id, project_id as "projectId", model, metadata, messages, completion, created_at as "createdAt"`;

export async function insertCompletion(
  db: Queryable,
  completion: Omit<StoredCompletion, 'createdAt'>,
): Promise<void> {
  await db.query(
    `insert into chat_completions (id, project_id, model, metadata, messages, completion)
     values ($1, $2, $3, $4, $5, $6)`,
    [
      completion.id,
      completion.projectId,
      completion.model,
      completion.metadata && toJsonb(completion.metadata),
      JSON.stringify(completion.messages),
      JSON.stringify(completion.completion),
    ],
  );
}

export async function findCompletion(
  db: Queryable,
  projectId: string,
  id: string,
): Promise<StoredCompletion | null> {
  const { rows } = await db.query<StoredCompletion>(
    `select ${columns} from chat_completions where id = $1 and project_id = $2`,
    [id, projectId],
  );
  return rows[0] ?? null;
}

export interface CompletionFilter extends PageRequest {
  projectId: string;
  model?: string | undefined;
  /** Completions must have all of these pairs. */
  metadata?: Record<string, string> | undefined;
  order: 'asc' | 'desc';
}

/** By time of creation. An unknown `after` gives an empty page. */
export async function listCompletions(
  db: Queryable,
  filter: CompletionFilter,
): Promise<Page<StoredCompletion>> {
  const beyond = filter.order === 'asc' ? '>' : '<';
  const place = placeOf({ table: 'chat_completions', id: '$4', list: '$1', column: 'project_id' });
  const { rows } = await db.query<StoredCompletion>(
    `select ${columns} from chat_completions
     where project_id = $1 and ($2::text is null or model = $2) and ($3::jsonb is null or metadata @> $3)
       and ($4::text is null or (created_at, id) ${beyond} ${place})
     order by created_at ${filter.order}, id ${filter.order}
     limit $5`,
    [filter.projectId, filter.model ?? null, filter.metadata ?? null, filter.after ?? null, filter.limit + 1],
  );
  return toPage(rows, filter.limit);
}

/** Null when there is no such completion. */
export async function setCompletionMetadata(
  db: Queryable,
  projectId: string,
  id: string,
  metadata: Record<string, string> | null,
): Promise<StoredCompletion | null> {
  const { rows } = await db.query<StoredCompletion>(
    `update chat_completions set metadata = $3 where id = $1 and project_id = $2 returning ${columns}`,
    [id, projectId, metadata && toJsonb(metadata)],
  );
  return rows[0] ?? null;
}

export async function deleteCompletion(db: Queryable, projectId: string, id: string): Promise<boolean> {
  const { rowCount } = await db.query('delete from chat_completions where id = $1 and project_id = $2', [
    id,
    projectId,
  ]);
  return rowCount === 1;
}
