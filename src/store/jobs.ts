// Fine-tuning jobs as the API uses them: create, read, list, cancel, pause, resume. SQL only.
// What a runner writes while it holds the lease is in leases.ts and runs.ts.
import { newId } from '../ids.ts';
import type {
  MethodName,
  MethodSettings,
  RequestedHyperparameters,
  ResolvedHyperparameters,
} from '../training/protocol.ts';
import type { Queryable } from './database.ts';
import { type Page, type PageRequest, toPage } from './pages.ts';
import type { WandbIntegration } from './wandb-runs.ts';
import { announce } from './webhook-deliveries.ts';

/** Channel that runners listen on. The payload is the id of a row whose status changed; only a hint, the row is authoritative. */
export const CONTROL_CHANNEL = 'anneal_control';

export type JobStatus =
  | 'validating_files'
  | 'queued'
  | 'running'
  | 'paused'
  | 'succeeded'
  | 'failed'
  | 'cancelled';

export const TERMINAL_STATUSES: readonly JobStatus[] = ['succeeded', 'failed', 'cancelled'];

type StoredSettings<Name extends MethodName> = MethodSettings[Name] & {
  hyperparameters: RequestedHyperparameters;
};

/** As requested: the settings of a method stand under its name. */
export type JobMethod = {
  [Name in MethodName]: { type: Name } & { [Key in Name]: StoredSettings<Name> };
}[MethodName];

export const settingsOf = (method: JobMethod): StoredSettings<MethodName> =>
  (method as Record<string, unknown>)[method.type] as StoredSettings<MethodName>;

export interface JobError {
  code: string;
  message: string;
  param: string | null;
}

export interface Job {
  id: string;
  projectId: string;
  organizationId: string;
  createdAt: Date;
  startedAt: Date | null;
  finishedAt: Date | null;
  status: JobStatus;
  model: string;
  trainingFile: string;
  validationFile: string | null;
  suffix: string | null;
  seed: number;
  metadata: Record<string, string> | null;
  method: JobMethod;
  hyperparameters: ResolvedHyperparameters | null;
  fineTunedModel: string | null;
  trainedTokens: number | null;
  resultFiles: string[];
  error: JobError | null;
  estimatedFinish: Date | null;
  /** Base URL of the API that the job was imported from; null for a job of this server. */
  importedFrom: string | null;
  integrations: WandbIntegration[] | null;
}

export const jobColumns = `jobs.id, jobs.project_id as "projectId",
  (select organization_id from projects where projects.id = jobs.project_id) as "organizationId",
  jobs.created_at as "createdAt", jobs.started_at as "startedAt", jobs.finished_at as "finishedAt", jobs.status,
  jobs.model, jobs.training_file as "trainingFile", jobs.validation_file as "validationFile", jobs.suffix, jobs.seed,
  jobs.metadata, jobs.method, jobs.hyperparameters, jobs.fine_tuned_model as "fineTunedModel",
  jobs.trained_tokens as "trainedTokens", jobs.result_files as "resultFiles", jobs.error,
  jobs.estimated_finish as "estimatedFinish", jobs.imported_from as "importedFrom", jobs.integrations`;

export interface NewJob {
  projectId: string;
  /** Key that created the job; null if unknown. */
  apiKeyId: string | null;
  model: string;
  trainingFile: string;
  validationFile: string | null;
  suffix: string | null;
  seed: number;
  metadata: Record<string, string> | null;
  method: JobMethod;
  integrations?: WandbIntegration[] | null;
}

export async function insertJob(db: Queryable, job: NewJob): Promise<Job> {
  const { rows } = await db.query<Job>(
    `insert into jobs (id, project_id, status, model, training_file, validation_file, suffix, seed, metadata, method,
       integrations, api_key_id)
     values ($1, $2, 'validating_files', $3, $4, $5, $6, $7, $8, $9, $10, $11)
     returning ${jobColumns}`,
    [
      newId('job'),
      job.projectId,
      job.model,
      job.trainingFile,
      job.validationFile,
      job.suffix,
      job.seed,
      job.metadata,
      job.method,
      job.integrations ? JSON.stringify(job.integrations) : null,
      job.apiKeyId,
    ],
  );
  return rows[0]!;
}

export async function findJob(db: Queryable, projectId: string, id: string): Promise<Job | null> {
  const { rows } = await db.query<Job>({
    name: 'find-job',
    text: `select ${jobColumns} from jobs where id = $1 and project_id = $2`,
    values: [id, projectId],
  });
  return rows[0] ?? null;
}

export interface JobFilter extends PageRequest {
  projectId: string;
  /** Jobs with all of these pairs; null: jobs without metadata. */
  metadata?: Record<string, string> | null | undefined;
}

/** `given` has no name, so it is planned with its values: they decide which index is the better one. */
const metadataConditions = {
  any: { name: 'list-jobs', condition: 'true' },
  none: { name: 'list-jobs-without-metadata', condition: `(metadata is null or metadata = '{}')` },
  given: { name: undefined, condition: 'metadata @> $4' },
};

/** Newest first. An unknown `after` gives an empty page. */
export async function listJobs(
  db: Queryable,
  { projectId, metadata, after, limit }: JobFilter,
): Promise<Page<Job>> {
  const { name, condition } = metadataConditions[metadata ? 'given' : metadata === null ? 'none' : 'any'];
  const { rows } = await db.query<Job>({
    name,
    text: `select ${jobColumns} from jobs
     where project_id = $1 and ${condition}
       and (created_at, id) < ( -- one bound whatever the page, so that one plan serves the first and the last
         select created_at, id from jobs where id = $2 and project_id = $1
         union all select 'infinity', '' where $2::text is null)
     order by created_at desc, id desc
     limit $3`,
    values: [projectId, after ?? null, limit + 1, ...(metadata ? [metadata] : [])],
  });
  return toPage(rows, limit);
}

/** Allowed status before, and status after, each transition that a request may ask for. */
export const transitions = {
  cancel: { from: ['validating_files', 'queued', 'running', 'paused'], to: 'cancelled' },
  pause: { from: ['queued', 'running'], to: 'paused' },
  resume: { from: ['paused'], to: 'queued' },
} as const satisfies Record<string, { from: readonly JobStatus[]; to: JobStatus }>;

/** Null when the job does not exist or its status does not allow the transition. Notifies the runners. */
export async function changeJobStatus(
  db: Queryable,
  projectId: string,
  id: string,
  transition: keyof typeof transitions,
): Promise<Job | null> {
  const { from, to } = transitions[transition];
  const { rows } = await db.query<Job>(
    `update jobs set status = $4, estimated_finish = null,
       finished_at = case when $4 = any($5::text[]) then now() end
     where id = $1 and project_id = $2 and status = any($3)
     returning ${jobColumns}, pg_notify($6, id)`,
    [id, projectId, from, to, TERMINAL_STATUSES, CONTROL_CHANNEL],
  );
  if (rows[0] && to === 'cancelled') await announce(db, { projectId, type: 'fine_tuning.job.cancelled', id });
  return rows[0] ?? null;
}
