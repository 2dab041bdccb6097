// Reads a finished job of an OpenAI account, with its events and checkpoints, in the form in which this service stores jobs.
import type OpenAI from 'openai';
import type { ImportedCheckpoint, ImportedEvent, ImportedJob } from '../store/imports.ts';

type FineTuningJob = OpenAI.FineTuning.FineTuningJob;

export interface ImportPlace {
  projectId: string;
  /** Address of the API. */
  importedFrom: string;
}

const ENDED = ['succeeded', 'failed', 'cancelled'] as const;
const LEVELS = ['info', 'warn', 'error'];
const PAGE = 100;

export function hasEnded(job: FineTuningJob): boolean {
  return (ENDED as readonly string[]).includes(job.status);
}

export async function readJob(
  client: OpenAI,
  job: FineTuningJob,
  { projectId, importedFrom }: ImportPlace,
): Promise<ImportedJob> {
  const { user_provided_suffix: suffix } = job as FineTuningJob & { user_provided_suffix?: string | null };
  return {
    id: job.id,
    projectId,
    importedFrom,
    createdAt: toDate(job.created_at),
    finishedAt: job.finished_at ? toDate(job.finished_at) : null,
    status: job.status as ImportedJob['status'],
    model: job.model,
    trainingFile: job.training_file,
    validationFile: job.validation_file ?? null,
    suffix: suffix ?? null,
    seed: job.seed ?? 0,
    metadata: (job.metadata as Record<string, string> | null | undefined) ?? null,
    method: methodOf(job),
    fineTunedModel: job.fine_tuned_model ?? null,
    trainedTokens: job.trained_tokens ?? null,
    resultFiles: job.result_files ?? [],
    error: errorOf(job),
    ownedBy: job.organization_id,
    events: await readEvents(client, job.id),
    checkpoints: await readCheckpoints(client, job.id),
  };
}

/** Jobs created before `method` existed have top-level hyperparameters; for jobs with other methods the real API sends null there. */
function methodOf({ method, hyperparameters }: FineTuningJob): Record<string, unknown> {
  const type = method?.type ?? 'supervised';
  const settings = (method as Record<string, unknown> | undefined)?.[type] ?? {};
  return {
    type,
    [type]: { ...settings, hyperparameters: { ...hyperparameters, ...hyperparametersOf(settings) } },
  };
}

function hyperparametersOf(settings: object): object {
  return (settings as { hyperparameters?: object | null }).hyperparameters ?? {};
}

/** The real API sends an object of nulls for a job that did not fail. */
function errorOf({ error }: FineTuningJob): ImportedJob['error'] {
  if (!error?.message) return null;
  return { code: error.code ?? 'server_error', message: error.message, param: error.param ?? null };
}

async function readEvents(client: OpenAI, jobId: string): Promise<ImportedEvent[]> {
  const events: ImportedEvent[] = [];
  for await (const event of client.fineTuning.jobs.listEvents(jobId, { limit: PAGE })) {
    const { id, created_at, message } = event;
    const type = event.type === 'metrics' ? 'metrics' : 'message'; // other types occur, such as moderation_checks
    const level = LEVELS.includes(event.level) ? event.level : 'info';
    events.push({ id, created_at, level, type, message, data: toObject(event.data) });
  }
  return events.reverse();
}

function toObject(data: unknown): Record<string, unknown> | null {
  return typeof data === 'object' && data !== null ? (data as Record<string, unknown>) : null;
}

async function readCheckpoints(client: OpenAI, jobId: string): Promise<ImportedCheckpoint[]> {
  const checkpoints: ImportedCheckpoint[] = [];
  for await (const checkpoint of client.fineTuning.jobs.checkpoints.list(jobId, { limit: PAGE })) {
    const { id, created_at, step_number: step, fine_tuned_model_checkpoint: model, metrics } = checkpoint;
    checkpoints.push({ id, created_at, step, model, metrics: { ...metrics } });
  }
  return checkpoints;
}

export function toDate(unixSeconds: number): Date {
  return new Date(unixSeconds * 1000);
}
