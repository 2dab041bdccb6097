// Reads the items of an eval run's data source, in order: inline content, a file, stored completions or responses.

import type pg from 'pg';
import { BlobNotFound, type Blobs } from '../blobs/blobs.ts';
import { readLines } from '../data/jsonl.ts';
import type { SourceItem } from '../evaluation/eval-item.ts';
import { compileItemSchema } from '../evaluation/item-schema.ts';
import { isObject } from '../json-object.ts';
import type { Logger } from '../log.ts';
import { listCompletions, type StoredCompletion } from '../store/chat-completions.ts';
import type { LeasedRun, RunSource } from '../store/eval-runs.ts';
import { listAnsweredResponses, type StoredResponse } from '../store/responses.ts';
import { findInputFile } from '../store/runs.ts';
import { untilItWorks } from './retry.ts';

/** The run fails because of its data. */
export class SourceFailure extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

export interface SourceDeps {
  readonly pool: pg.Pool;
  readonly blobs: Blobs;
  readonly log: Logger;
  /** Ends waiting for a store that is unavailable. */
  readonly signal: AbortSignal;
}

type Reader = (deps: SourceDeps, run: LeasedRun) => AsyncIterable<SourceItem>;

const readers: Record<RunSource['type'], Reader> = {
  file_content: readContent,
  file_id: readFile,
  stored_completions: readCompletions,
  responses: readResponses,
};

/** Throws SourceFailure. */
export function readItems(deps: SourceDeps, run: LeasedRun): AsyncIterable<SourceItem> {
  return readers[run.dataSource.source.type](deps, run);
}

async function* readContent(_: SourceDeps, { dataSource }: LeasedRun): AsyncGenerator<SourceItem> {
  for (const [index, { item, sample }] of dataSource.source.content!.entries())
    yield { index, item, sample: sample ?? null };
}

async function* readFile(deps: SourceDeps, run: LeasedRun): AsyncGenerator<SourceItem> {
  const id = run.dataSource.source.id!;
  const { dataSourceConfig: config } = run;
  const check = config.type === 'custom' ? compileItemSchema(config.item_schema) : () => null;
  const bytes = await untilItWorks(() => openFile(deps, id), { what: `reading ${id}`, ...deps });
  let index = 0;
  for await (const line of readLines(bytes)) {
    const at = `${id}: line ${line.number}`;
    if (!('text' in line)) throw new SourceFailure('invalid_file', `${at}: ${line.message}`);
    const read = readLine(line.text, at);
    const wrong = check([read.item]);
    if (wrong !== null) throw new SourceFailure('invalid_file', `${at}: ${wrong.reason}`);
    yield { index: index++, ...read };
  }
}

async function openFile({ pool, blobs }: SourceDeps, id: string) {
  const file = await findInputFile(pool, id);
  if (!file) throw gone(id);
  return blobs.get(file.blobKey).catch(error => {
    throw error instanceof BlobNotFound ? gone(id) : error;
  });
}

function gone(id: string): SourceFailure {
  return new SourceFailure('invalid_file', `The file ${id} is no longer there`);
}

/** `{"item": {...}, "sample": {...}}`; `sample` is optional. */
function readLine(text: string, at: string): Omit<SourceItem, 'index'> {
  const value = parse(text, at);
  if (!isObject(value) || !isObject(value.item))
    throw new SourceFailure('invalid_file', `${at}: expected an object with an object 'item'`);
  if (value.sample !== undefined && value.sample !== null && !isObject(value.sample))
    throw new SourceFailure('invalid_file', `${at}: expected 'sample' to be an object`);
  return { item: value.item, sample: value.sample ?? null };
}

function parse(text: string, at: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new SourceFailure('invalid_file', `${at}: invalid JSON: ${(error as Error).message}`);
  }
}

const PAGE = 100;

/** Oldest first, of those stored before `created_before`, or before the run was created. */
async function* readCompletions({ pool }: SourceDeps, run: LeasedRun): AsyncGenerator<SourceItem> {
  const { metadata, model, created_after, created_before, limit } = run.dataSource.source;
  const before = created_before ?? run.createdAt.getTime() / 1000;
  let after: string | undefined;
  for (let index = 0; ; ) {
    const page = await listCompletions(pool, {
      projectId: run.projectId,
      model: model ?? undefined,
      metadata: metadata ?? undefined,
      order: 'asc',
      limit: PAGE,
      after,
    });
    for (const completion of page.rows) {
      const seconds = completion.createdAt.getTime() / 1000;
      if (seconds > before || index >= (limit ?? Number.POSITIVE_INFINITY)) return;
      if (seconds >= (created_after ?? 0)) yield { index: index++, ...toItem(completion) };
    }
    if (!page.hasMore) return;
    after = page.rows.at(-1)!.id;
  }
}

function toItem({ id, model, messages, metadata, completion }: StoredCompletion): Omit<SourceItem, 'index'> {
  const choices = completion.choices as { message?: { content?: string | null; tool_calls?: unknown[] } }[];
  const message = choices[0]?.message;
  return {
    item: { id, model, input: messages, metadata: metadata ?? {} },
    sample: { output_text: message?.content ?? '', output_tools: message?.tool_calls ?? [], choices },
  };
}

/** Oldest first, of those stored before `created_before`, or before the run was created. */
async function* readResponses({ pool }: SourceDeps, run: LeasedRun): AsyncGenerator<SourceItem> {
  const { source } = run.dataSource;
  const times = {
    createdAfter: source.created_after ? new Date(source.created_after * 1000) : null,
    createdBefore: source.created_before ? new Date(source.created_before * 1000) : run.createdAt,
  };
  let after: string | null = null;
  for (let index = 0; ; ) {
    const asked = { projectId: run.projectId, limit: PAGE, after, ...times };
    const page: StoredResponse[] = await listAnsweredResponses(pool, asked);
    for (const response of page)
      if (isWanted(source, response)) yield { index: index++, ...responseItem(response) };
    if (page.length < PAGE) return;
    after = page.at(-1)!.id;
  }
}

function isWanted(source: RunSource, { response }: StoredResponse): boolean {
  const same = (wanted: unknown, is: unknown): boolean =>
    wanted === null || wanted === undefined || wanted === is;
  const metadata = (response.metadata ?? {}) as Record<string, unknown>;
  const tools = ((response.tools ?? []) as { name?: string }[]).map(({ name }) => name);
  const instructions = String(response.instructions ?? '').toLowerCase();
  return (
    same(source.model, response.model) &&
    same(source.temperature, response.temperature) &&
    same(source.top_p, response.top_p) &&
    instructions.includes((source.instructions_search ?? '').toLowerCase()) &&
    Object.entries(source.metadata ?? {}).every(([key, value]) => metadata[key] === value) &&
    (!source.users || source.users.includes(String(response.user))) &&
    (source.tools ?? []).every(name => tools.includes(name))
  );
}

type Part = { type: string; text?: string };
type ResponseItem = { type?: string; role?: string; content?: string | Part[] };

/** The messages become `item.input`; text and calls of the answer become the sample. */
function responseItem({ id, input, response }: StoredResponse): Omit<SourceItem, 'index'> {
  const { model, instructions, metadata } = response;
  const messages = (input as ResponseItem[]).filter(({ type }) => type === undefined || type === 'message');
  const output = response.output as ResponseItem[];
  const parts = output.flatMap(({ content }) => (Array.isArray(content) ? content : []));
  return {
    item: {
      id,
      model,
      instructions: instructions ?? null,
      metadata: metadata ?? {},
      input: messages.map(({ role, content }) => ({ role, content })),
    },
    sample: {
      output_text: parts.map(({ text }) => text ?? '').join(''),
      output_tools: output.filter(({ type }) => type === 'function_call'),
    },
  };
}
