// The items of an evaluation's data source, in their order: content of the request, a file, stored completions.
import type pg from 'pg';
import { BlobNotFound, type Blobs } from '../blobs/blobs.ts';
import { readLines } from '../data/jsonl.ts';
import type { SourceItem } from '../evaluation/eval-item.ts';
import { compileItemSchema } from '../evaluation/item-schema.ts';
import { listCompletions, type StoredCompletion } from '../store/chat-completions.ts';
import type { LeasedRun, RunSource } from '../store/eval-runs.ts';
import { findInputFile } from '../store/runs.ts';

/** The run cannot go on, by a fault of its data. */
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
}

type Reader = (deps: SourceDeps, run: LeasedRun) => AsyncIterable<SourceItem>;

const readers: Record<RunSource['type'], Reader> = {
  file_content: readContent,
  file_id: readFile,
  stored_completions: readCompletions,
};

/** Throws SourceFailure. */
export function readItems(deps: SourceDeps, run: LeasedRun): AsyncIterable<SourceItem> {
  return readers[run.dataSource.source.type](deps, run);
}

async function* readContent(_: SourceDeps, { dataSource }: LeasedRun): AsyncGenerator<SourceItem> {
  for (const [index, { item, sample }] of dataSource.source.content!.entries())
    yield { index, item, sample: sample ?? null };
}

async function* readFile({ pool, blobs }: SourceDeps, run: LeasedRun): AsyncGenerator<SourceItem> {
  const id = run.dataSource.source.id!;
  const { dataSourceConfig: config } = run;
  const check = config.type === 'custom' ? compileItemSchema(config.item_schema) : () => null;
  const file = await findInputFile(pool, id);
  if (!file) throw gone(id);
  const bytes = await blobs.get(file.blobKey).catch(error => {
    throw error instanceof BlobNotFound ? gone(id) : error;
  });
  let index = 0;
  for await (const line of readLines(bytes)) {
    const at = `${id}: line ${line.number}`;
    if (!('text' in line)) throw new SourceFailure('invalid_file', `${at}: ${line.message}`);
    const read = readLine(line.text, at);
    const wrong = check(read.item);
    if (wrong !== null) throw new SourceFailure('invalid_file', `${at}: ${wrong}`);
    yield { index: index++, ...read };
  }
}

function gone(id: string): SourceFailure {
  return new SourceFailure('invalid_file', `The file ${id} is no longer there`);
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** `{"item": {...}, "sample": {...}}`, of which the sample may be left out. */
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

/** Oldest first; those that come while the run goes on come at its end. */
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
