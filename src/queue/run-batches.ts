// Runs batches: validates the input file, sends its requests to the API's routes, several concurrently, and writes the result files. Each
// response is stored at once, so that after a crash no request is repeated.
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { BlobNotFound, type Blobs } from '../blobs/blobs.ts';
import type { Logger } from '../log.ts';
import {
  type BatchEnd,
  type BatchLease,
  beginBatch,
  endBatch,
  failBatch,
  finalizeBatch,
  readAnsweredLines,
  readLeasedBatch,
  readRequests,
  releaseBatch,
  type StoredRequest,
  takeBatch,
  writeLineAnswer,
} from '../store/batch-runs.ts';
import { BATCHES_PAYLOAD, type Batch, type BatchError, hasWaitingBatch } from '../store/batches.ts';
import { fileBlobKey, insertFile, newFileId } from '../store/files.ts';
import { fenced, JobEnded, LeaseLost, type Runner } from '../store/leases.ts';
import { findModel } from '../store/models.ts';
import type { Notifications } from '../store/notifications.ts';
import { findInputFile } from '../store/runs.ts';
import type { Answered, Answerer } from './answerer.ts';
import { checkInput, type InputRequest, readInput } from './batch-input.ts';
import { openBell } from './bell.ts';
import { keepLease } from './lease-keeper.ts';
import { type Outage, openOutage } from './outage.ts';

export interface BatchDeps {
  readonly log: Logger;
  readonly pool: pg.Pool;
  readonly blobs: Blobs;
  /** Notifications on QUEUE_CHANNEL. */
  readonly arrivals: Notifications;
  /** Notifications on CONTROL_CHANNEL. */
  readonly control: Notifications;
  readonly answer: Answerer;
  readonly runner: Runner;
}

/** Concurrent requests of a batch: they are generated together. */
const AT_ONCE = 16;
/** Polling interval, which finds batches of lost runners. */
const LOOK_MS = 5_000;
/** After this time a waiting batch gets its turn. */
const TURN_MS = 30_000;
/** Attempts per request, while the response is a 5xx. */
const TRIES = 6;
const FIRST_PAUSE_MS = 500;
/** Shortest wait for a rate limit: there is then room for several requests, and the file is not read again for each. */
const LEAST_WAIT_SECONDS = 20;

/** Returns the stop function, which cancels running requests and releases the batch for another worker. */
export function runBatches(deps: BatchDeps): () => Promise<void> {
  const stopping = new AbortController();
  const bell = openBell();
  const outage = openOutage(deps.log, 'reading which batches wait');
  const unsubscribe = deps.arrivals.subscribe(BATCHES_PAYLOAD, bell.ring);

  async function loop(): Promise<void> {
    while (!stopping.signal.aborted) {
      if (!(await runNext(deps, stopping.signal, outage))) await bell.wait(LOOK_MS, stopping.signal);
    }
  }

  const ended = loop();
  return async () => {
    stopping.abort();
    unsubscribe();
    await ended;
  };
}

/** False when there was nothing to run, or after an error: the caller then waits. */
async function runNext(deps: BatchDeps, closing: AbortSignal, outage: Outage): Promise<boolean> {
  const { pool, log, runner } = deps;
  let lease: BatchLease | null = null;
  let waitSeconds = 0;
  try {
    lease = await takeBatch(pool, runner);
    outage.over();
    if (lease) waitSeconds = await runBatch(deps, lease, closing);
    return lease !== null;
  } catch (error) {
    if (error instanceof LeaseLost || error instanceof JobEnded) log.info(error.message);
    else if (lease) log.warn({ error, batch: lease.id }, 'a batch was interrupted; it will be resumed');
    else outage.failed(error);
    return false;
  } finally {
    if (lease) await releaseBatch(pool, lease, waitSeconds).catch(() => undefined); // it runs out by itself
  }
}

/** Runs a batch for one turn. Returns the seconds to wait for a rate limit of its project; 0 without. */
async function runBatch(deps: BatchDeps, lease: BatchLease, closing: AbortSignal): Promise<number> {
  const keeper = keepLease(deps, lease);
  const over = new AbortController(); // nothing more is to be answered
  keeper.onStatus(status => {
    if (status !== 'in_progress' && status !== 'validating') over.abort();
  });
  const signal = AbortSignal.any([keeper.signal, over.signal, closing]);
  let waitSeconds = 0;
  try {
    const read = () => readLeasedBatch(deps.pool, lease);
    let batch = await read();
    if (batch.status === 'validating') batch = await check(deps, lease, batch).then(read);
    if (batch.status === 'in_progress') {
      waitSeconds = await answerAll(deps, lease, batch, signal);
      batch = await read();
    }
    if (batch.status === 'finalizing' || batch.status === 'cancelling') await finish(deps, lease, batch);
    return waitSeconds;
  } finally {
    keeper.close();
  }
}

// ---- validating

async function check({ pool, blobs, log }: BatchDeps, lease: BatchLease, batch: Batch): Promise<void> {
  const source = await openInput({ pool, blobs }, batch);
  if (!source) return failBatch(pool, lease, [missingInput(batch)]);
  const hasModel = async (id: string) => (await findModel(pool, batch.projectId, id)) !== null;
  const checked = await checkInput(source, { endpoint: batch.endpoint, hasModel });
  log.info({ batch: batch.id, errors: checked.errors.length }, 'the input of a batch was checked');
  if (checked.errors.length > 0) return failBatch(pool, lease, checked.errors);
  await beginBatch(pool, lease, checked);
}

/** Null when the file no longer exists. */
async function openInput(
  { pool, blobs }: Pick<BatchDeps, 'pool' | 'blobs'>,
  batch: Batch,
): Promise<Readable | null> {
  const file = await findInputFile(pool, batch.inputFileId);
  if (!file) return null;
  return blobs.get(file.blobKey).catch(error => {
    if (error instanceof BlobNotFound) return null;
    throw error;
  });
}

function missingInput({ inputFileId }: Batch): BatchError {
  const message = `The input file ${inputFileId} is gone.`;
  return { code: 'invalid_file', message, param: 'input_file_id', line: null };
}

// ---- answering

/** Ends early when `signal` is aborted, at the end of a turn if other batches wait, and at a rate limit: then it returns the seconds to wait. */
async function answerAll(
  deps: BatchDeps,
  lease: BatchLease,
  batch: Batch,
  signal: AbortSignal,
): Promise<number> {
  const isExpired = () => Date.now() >= batch.expiresAt.getTime();
  const source = isExpired() ? null : await openInput(deps, batch);
  const { whole, waitSeconds } = source
    ? await answerLines(deps, lease, batch, source, { signal, isExpired })
    : WHOLE;
  if (whole && !signal.aborted) await finalizeBatch(deps.pool, lease);
  return waitSeconds;
}

interface Until {
  signal: AbortSignal;
  isExpired(): boolean;
}

interface Turn {
  /** Whether no request is left. */
  whole: boolean;
  /** 0 if no rate limit was reached. */
  waitSeconds: number;
}
const WHOLE: Turn = { whole: true, waitSeconds: 0 };

async function answerLines(
  deps: BatchDeps,
  lease: BatchLease,
  batch: Batch,
  source: Readable,
  { signal, isExpired }: Until,
): Promise<Turn> {
  const answered = await readAnsweredLines(deps.pool, batch.id);
  const turnEnds = Date.now() + TURN_MS;
  const stop = new AbortController(); // by one line for all
  const inHand = new Set<Promise<void>>();
  const isOver = async () => Date.now() > turnEnds && (await hasWaitingBatch(deps.pool));
  let whole = true;
  let waitSeconds = 0;
  try {
    for await (const request of readInput(source, batch.endpoint)) {
      if (answered.has(request.line)) continue;
      if (waitSeconds > 0 || signal.aborted || stop.signal.aborted || isExpired() || (await isOver())) {
        whole = isExpired();
        break;
      }
      const answering = answerLine(deps, lease, batch, request, AbortSignal.any([signal, stop.signal]))
        .then(seconds => {
          waitSeconds = Math.max(waitSeconds, seconds);
        })
        .catch(reason => stop.abort(reason))
        .finally(() => inHand.delete(answering));
      inHand.add(answering);
      if (inHand.size >= AT_ONCE) await Promise.race(inHand);
    }
  } finally {
    source.destroy();
    await Promise.all(inHand);
  }
  if (stop.signal.aborted && !signal.aborted) throw stop.signal.reason;
  return { whole: whole && waitSeconds === 0, waitSeconds };
}

/**
 * Returns the seconds that the line has to wait for a rate limit; 0 once it is answered. Rejects when it was cancelled, or the lease
 * was lost.
 */
async function answerLine(
  deps: BatchDeps,
  lease: BatchLease,
  { projectId, apiKeyId, endpoint: url }: Batch,
  { line, body }: InputRequest,
  signal: AbortSignal,
): Promise<number> {
  const answered = await untilAnswered(deps, { projectId, apiKeyId, url, body, signal });
  if (isLimited(answered)) return Math.max(LEAST_WAIT_SECONDS, answered.retryAfterSeconds);
  const { statusCode: status_code, requestId: request_id } = answered;
  const response = { status_code, request_id, body: answered.body };
  const written = await writeLineAnswer(deps.pool, lease, { line, response, ...usageOf(answered) });
  if (!written) throw new LeaseLost(lease);
  return 0;
}

/** Whether a rate limit asks for a retry. A 429 without `retry-after` (a request that can never fit) is the line's final response. */
const isLimited = (answered: Answered): answered is Answered & { retryAfterSeconds: number } =>
  answered.statusCode === 429 && answered.retryAfterSeconds !== null;

async function untilAnswered({ answer }: BatchDeps, request: Parameters<Answerer>[0]): Promise<Answered> {
  for (let attempt = 1; ; attempt++) {
    const answered = await answer(request);
    request.signal.throwIfAborted();
    const isPassing = answered.statusCode >= 500;
    if (!isPassing || attempt === TRIES) return answered;
    await sleep(FIRST_PAUSE_MS * 2 ** (attempt - 1), undefined, { signal: request.signal });
  }
}

/** Chat, completions and embeddings name the counts differently from responses. */
function usageOf({ body }: Answered): { inputTokens: number; outputTokens: number } {
  const usage = (body as { usage?: Record<string, number> } | null)?.usage ?? {};
  return {
    inputTokens: usage.prompt_tokens ?? usage.input_tokens ?? 0,
    outputTokens: usage.completion_tokens ?? usage.output_tokens ?? 0,
  };
}

// ---- the end

const unansweredError = {
  completed: null,
  expired: {
    code: 'batch_expired',
    message: 'This request could not be executed before the completion window expired.',
  },
  cancelled: { code: 'batch_cancelled', message: 'This request was not executed: the batch was cancelled.' },
} satisfies Record<BatchEnd, { code: string; message: string } | null>;

/** Publishes the result files and the batch's end in one transaction. */
async function finish(deps: BatchDeps, lease: BatchLease, batch: Batch): Promise<void> {
  const { pool, log } = deps;
  const unanswered = batch.total - batch.completed - batch.failed;
  const status: BatchEnd =
    batch.status === 'cancelling' ? 'cancelled' : unanswered > 0 ? 'expired' : 'completed';
  const error = unansweredError[status];
  const isSuccess = ({ response }: StoredRequest) => response !== null && response.status_code < 300;
  const output = batch.completed > 0 ? await storeResults(deps, batch, isSuccess, error) : null;
  const failures =
    batch.total > batch.completed
      ? await storeResults(deps, batch, request => !isSuccess(request), error)
      : null;
  await fenced(pool, lease, async tx => {
    for (const [kind, file] of [['output', output] as const, ['error', failures] as const])
      if (file) await insertFile(tx, { ...file, filename: `${batch.id}_${kind}.jsonl` });
    const files = { outputFileId: output?.id ?? null, errorFileId: failures?.id ?? null };
    await endBatch(tx, lease, { status, unanswered, ...files });
  });
  log.info({ batch: batch.id, status }, 'a batch has ended');
}

async function storeResults(
  { pool, blobs }: BatchDeps,
  { id: batchId, projectId, outputExpiresAfterSeconds: expiresAfterSeconds }: Batch,
  isWanted: (request: StoredRequest) => boolean,
  error: { code: string; message: string } | null,
) {
  const id = newFileId();
  async function* lines() {
    for await (const request of readRequests(pool, batchId))
      if (isWanted(request)) yield resultLine(request, error);
  }
  const stored = await blobs.put(fileBlobKey(id), Readable.from(lines(), { objectMode: false }));
  const { sizeBytes: bytes, sha256, key: blobKey } = stored;
  return { id, projectId, purpose: 'batch_output', bytes, sha256, blobKey, expiresAfterSeconds };
}

function resultLine(
  { id, customId: custom_id, response }: StoredRequest,
  unanswered: { code: string; message: string } | null,
): string {
  const error = response === null ? unanswered : null;
  return `${JSON.stringify({ id, custom_id, response, error })}\n`;
}
