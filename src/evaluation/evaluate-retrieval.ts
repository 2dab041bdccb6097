// Evaluates fine-tuned embeddings in comparison with the base model: each anchor of a validation file is a query against all positives
// and negatives in the file. Reads model folders and returns metrics; writes nothing.
//
// The report (`evaluation.json`):
//   validation_examples  lines of the file; evaluated_examples  of them, evenly spread
//   queries  number of distinct anchors; corpus  number of distinct texts that are searched
//   base, fine_tuned  each: see retrieval.ts
//   examples  a few: anchor, positive, and the positive's rank (from 1) with the base and the fine-tuned model
import { createReadStream } from 'node:fs';
import { readLines } from '../data/jsonl.ts';
import { truncateRead } from '../data/labelled.ts';
import type { PairLine } from '../data/pairs.ts';
import { loadTokenizer, type Tokenizer } from '../data/tokenizer.ts';
import type { Engine } from '../engine/program.ts';
import { normalized, readPooling } from '../models/pooling.ts';
import { type Model, openModel } from '../models/registry.ts';
import type { LoadedAdapter } from '../serving/adapter-stack.ts';
import { loadAdapter } from '../serving/adapters.ts';
import { Embedder } from '../serving/embedder.ts';
import { ranksOf, retrievalReport } from './retrieval.ts';
import { SHOWN_EXAMPLES, spread } from './text-outputs.ts';

export interface RetrievalEvaluation {
  readonly engine: Engine;
  /** Folder of the base model. */
  readonly modelDirectory: string;
  readonly fineTuned: { readonly kind: 'adapter' | 'full'; readonly directory: string };
  readonly validationFile: string;
  /** Maximum tokens of a text, as in training and serving. */
  readonly maxLength: number;
  readonly signal: AbortSignal;
}

const MAX_LINES = 1000;
const SHOWN_LENGTH = 2000;

/** Queries and corpus. */
interface Search {
  /** Anchor -> indices of its positives in `corpus`. */
  readonly queries: ReadonlyMap<string, ReadonlySet<number>>;
  readonly corpus: readonly string[];
}

export async function evaluateRetrieval(
  evaluation: RetrievalEvaluation,
): Promise<Record<string, unknown> | null> {
  const lines = await readPairs(evaluation.validationFile);
  if (lines.length === 0) return null;
  const chosen = spread(lines, MAX_LINES);
  const search = searchOf(chosen);
  const [base, fineTuned] = await searchWithBoth(evaluation, search);
  const anchors = [...search.queries.keys()];
  const rank = (ranks: readonly number[][], { anchor }: PairLine): number =>
    ranks[anchors.indexOf(anchor)]![0]!;
  return {
    validation_examples: lines.length,
    evaluated_examples: chosen.length,
    queries: search.queries.size,
    corpus: search.corpus.length,
    base: retrievalReport(base),
    fine_tuned: retrievalReport(fineTuned),
    examples: spread(chosen, SHOWN_EXAMPLES).map(line => ({
      anchor: line.anchor.slice(0, SHOWN_LENGTH),
      positive: line.positive.slice(0, SHOWN_LENGTH),
      base_rank: rank(base, line),
      fine_tuned_rank: rank(fineTuned, line),
    })),
  };
}

async function readPairs(file: string): Promise<PairLine[]> {
  const lines: PairLine[] = [];
  for await (const line of readLines(createReadStream(file)))
    if ('text' in line) lines.push(JSON.parse(line.text) as PairLine);
  return lines;
}

function searchOf(lines: readonly PairLine[]): Search {
  const places = new Map<string, number>();
  const placeOf = (text: string): number => {
    if (!places.has(text)) places.set(text, places.size);
    return places.get(text)!;
  };
  const queries = new Map<string, Set<number>>();
  for (const { anchor, positive, negative } of lines) {
    queries.set(anchor, (queries.get(anchor) ?? new Set()).add(placeOf(positive)));
    if (negative !== undefined) placeOf(negative);
  }
  return { queries, corpus: [...places.keys()] };
}

/** Ranks of the relevant texts of each query, with the base and with the fine-tuned model. */
async function searchWithBoth(
  evaluation: RetrievalEvaluation,
  search: Search,
): Promise<[base: number[][], fineTuned: number[][]]> {
  const { modelDirectory, fineTuned } = evaluation;
  const model = await openModel(modelDirectory);
  const base = await searchWith(evaluation, search, model, null);
  if (fineTuned.kind === 'full')
    return [base, await searchWith(evaluation, search, await openModel(fineTuned.directory), null)];
  const adapter = await loadAdapter(model, 'fine-tuned', fineTuned.directory);
  return [base, await searchWith(evaluation, search, model, adapter)];
}

async function searchWith(
  { engine, maxLength, signal }: RetrievalEvaluation,
  { queries, corpus }: Search,
  model: Model,
  adapter: LoadedAdapter | null,
): Promise<number[][]> {
  const pooling = await readPooling(model);
  const longest = Math.min(maxLength, pooling.maxTokens);
  const tokenizer = await loadTokenizer(model.directory);
  const embedder = new Embedder(engine, model, pooling);
  const embed = async (text: string): Promise<Float32Array> =>
    normalized(await embedder.embed({ tokens: cutTokens(text, tokenizer, longest), adapter, signal }));
  try {
    const [anchors, texts] = [[...queries.keys()], corpus].map(all => Promise.all(all.map(embed)));
    const found = await texts!;
    return (await anchors!).map((vector, i) =>
      ranksOf({ vector, relevant: [...queries.values()][i]! }, found),
    );
  } finally {
    await embedder.close();
  }
}

function cutTokens(text: string, tokenizer: Tokenizer, longest: number): number[] {
  const tokens = Int32Array.from(tokenizer.encodeWhole(text));
  const sequence = { tokens, trained: new Uint8Array(tokens.length) };
  return [...truncateRead(sequence, longest, tokenizer).tokens];
}
