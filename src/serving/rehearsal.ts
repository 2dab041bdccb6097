// Runs the largest steps of generation once, to measure their peak memory: the code of the batch with dummy tokens and empty caches.
import type { Engine } from '../engine/program.ts';
import type { GenerativeModel } from '../models/registry.ts';
import type { LoadedAdapter } from './adapter-stack.ts';
import { addRow, advanceBatch, createBatch, MAX_PIECE, type Row } from './batch.ts';
import { DEFAULT_LIMITS, fitsBatch } from './generator.ts';
import { openPrograms, type Programs } from './programs.ts';
import { scorePrompt } from './score.ts';

/** Numbers of tokens. */
export interface Rehearsed {
  /** Lengths of the prompts that will be answered together. */
  readonly prompts: readonly number[];
  readonly answer: number;
  /** The longest text to be scored, and for an encoder-decoder the longest source; null: no scoring. */
  readonly scored: { readonly source: number; readonly tokens: number } | null;
  /** Adapters that will generate one after another; null: the base model. */
  readonly adapters: readonly (LoadedAdapter | null)[];
}

/** Returns a function that releases the memory, which until then is held as between answers. */
export async function rehearse(
  engine: Engine,
  model: GenerativeModel,
  { prompts, answer, scored, adapters }: Rehearsed,
): Promise<() => Promise<void>> {
  const programs = openPrograms(engine, model, DEFAULT_LIMITS.maxPrograms);
  for (const adapter of adapters) {
    await answerAtOnce({ model, programs, adapter }, prompts, answer);
    if (scored) await score({ model, programs, adapter }, scored);
  }
  return () => programs.close();
}

interface Rehearsing {
  readonly model: GenerativeModel;
  readonly programs: Programs;
  readonly adapter: LoadedAdapter | null;
}

/** Prefills the longest prompts, then decodes the last token of every answer. */
async function answerAtOnce(
  { model, programs, adapter }: Rehearsing,
  prompts: readonly number[],
  answer: number,
): Promise<void> {
  const { maxPositions } = model.shape;
  const batch = createBatch(model, programs, MAX_PIECE);
  const limits: { limit: number; source: number }[] = [];
  for (const prompt of prompts.toSorted((a, b) => b - a)) {
    const row = rowOf(model, prompt, adapter);
    const limit = Math.min(maxPositions, row.tokens.length + answer);
    limits.push({ limit, source: row.source?.length ?? 0 });
    if (batch.rows.length > 0 && !fitsBatch(model, limits, DEFAULT_LIMITS)) break;
    addRow(batch, row);
  }
  if (batch.rows.length === 0) return;
  await advanceBatch(batch);
  batch.rows.forEach((row, i) => {
    row.tokens.push(...zeros(limits[i]!.limit - row.tokens.length));
    row.filled = row.tokens.length - 1;
  });
  await advanceBatch(batch);
}

const zeros = (count: number): number[] => new Array<number>(count).fill(0);

/** An encoder-decoder starts from a single token. */
function rowOf({ kind }: GenerativeModel, prompt: number, adapter: LoadedAdapter | null): Row {
  const rest = { adapter, filled: 0, readsLogits: true, take: () => undefined };
  if (kind === 'encoder-decoder') return { ...rest, source: zeros(prompt), tokens: [0] };
  return { ...rest, source: null, tokens: zeros(prompt) };
}

async function score(
  { model, programs, adapter }: Rehearsing,
  { source, tokens }: NonNullable<Rehearsed['scored']>,
): Promise<void> {
  const text = {
    source: model.kind === 'encoder-decoder' ? zeros(source) : null,
    tokens: zeros(tokens),
    adapter,
    topLogprobs: 1,
    maxPiece: MAX_PIECE,
  };
  for await (const _ of scorePrompt(model, programs, text)); // all of its pieces
}
