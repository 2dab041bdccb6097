// A beam search as a request in a batch: one row per beam. beam-search.ts decides which beams are kept.
import { type AnswerRules, applyRules } from '../models/answer-rules.ts';
import type { Answering, Beginning, GenerationEnd, GenerationRequest, Settled } from './answering.ts';
import { type Batch, branchRow, type Row, removeRow } from './batch.ts';
import {
  type BeamSettings,
  type Continuation,
  candidatesOf,
  type FoundAnswer,
  type NextToken,
  stepBeams,
} from './beam-search.ts';
import { largest, logSumExp, type TokenLogprob } from './logprobs.ts';

export type BeamOptions = Pick<BeamSettings, 'beams' | 'lengthPenalty' | 'earlyStopping'>;

export interface BeamRequest
  extends Pick<
    GenerationRequest,
    'prompt' | 'adapter' | 'maxTokens' | 'stopTokens' | 'topLogprobs' | 'signal'
  > {
  readonly search: BeamOptions;
}

export interface BeamAnswer extends GenerationEnd {
  /** All tokens except the stop token. */
  readonly written: readonly TokenLogprob[];
  /** Log-probability / length ** lengthPenalty. */
  readonly score: number;
}

interface BeamRow extends Row {
  tokens: number[];
  /** Cumulative log-probability, and the generated tokens. */
  sum: number;
  written: readonly TokenLogprob[];
  /** Candidates for the next token; null until the step has run. */
  next: readonly NextToken[] | null;
  /** The most probable tokens at this position, for the report. */
  top: TokenLogprob['top'];
}

interface Search {
  readonly request: BeamRequest;
  readonly beginning: Beginning;
  readonly settings: BeamSettings;
  /** Rows in the batch, sorted by `sum`. */
  rows: BeamRow[];
  length: number;
  found: readonly FoundAnswer[];
  readonly answers: Map<FoundAnswer, readonly TokenLogprob[]>;
}

/** Resolves with as many answers as beams, best first. */
export function answerByBeams(
  request: BeamRequest,
  beginning: Beginning,
  { resolve, reject }: Settled<BeamAnswer[]>,
): Answering {
  const limit = Math.min(beginning.maxPositions, beginning.tokens.length + request.maxTokens);
  const settings = {
    ...request.search,
    maxTokens: limit - beginning.tokens.length,
    stopTokens: request.stopTokens,
  };
  const search: Search = { request, beginning, settings, rows: [], length: 0, found: [], answers: new Map() };
  search.rows = [beamRow(search)];
  return {
    width: settings.beams,
    limit,
    signal: request.signal,
    get rows() {
      return search.rows;
    },
    advance(batch) {
      if (search.rows.some(row => row.next === null)) return false;
      const running = step(search);
      if (running.length > 0) {
        goOn(search, running, batch);
        return false;
      }
      resolve(search.found.map(answer => toAnswer(search, answer)));
      return true;
    },
    reject,
  };
}

function beamRow({ request, beginning, settings }: Search): BeamRow {
  const row: BeamRow = {
    adapter: request.adapter,
    source: beginning.source,
    tokens: [...beginning.tokens],
    filled: 0,
    sum: 0,
    written: [],
    next: null,
    top: [],
    readsLogits: true,
    take(_best, given) {
      const logits = given!;
      const total = logSumExp(logits);
      const asked = largest(logits, request.topLogprobs ?? 0);
      row.top = asked.map(token => ({ token, logprob: logits[token]! - total }));
      row.next = nextTokens(logits, total, candidatesOf(settings), beginning.rules, row.written.length);
    },
  };
  return row;
}

/** The most probable allowed tokens. A forced token has probability 1. */
function nextTokens(
  logits: Float32Array,
  total: number,
  count: number,
  rules: AnswerRules | null,
  written: number,
): NextToken[] {
  const forced = written === 0 ? (rules?.first ?? null) : null;
  if (forced !== null) return [{ token: forced, logprob: 0 }];
  const allowed = rules ? logits.slice() : logits;
  if (rules) applyRules(rules, written, allowed);
  return largest(allowed, count)
    .filter(token => allowed[token]! > -Infinity)
    .map(token => ({ token, logprob: logits[token]! - total }));
}

/** -> beams to continue; updates `found` and `answers`. */
function step(search: Search): readonly Continuation[] {
  const { rows, settings, answers } = search;
  search.length += 1;
  const { running, added, found } = stepBeams(
    settings,
    search.length,
    rows.map(row => row.sum),
    rows.map(row => row.next!),
    search.found,
  );
  for (const answer of added) answers.set(answer, extended(rows, answer.continuation));
  for (const answer of answers.keys()) if (!found.includes(answer)) answers.delete(answer);
  search.found = found;
  return running;
}

function extended(rows: readonly BeamRow[], { parent, token }: Continuation): TokenLogprob[] {
  const { written, next, top } = rows[parent]!;
  return [...written, { token, logprob: next!.find(each => each.token === token)!.logprob, top }];
}

/** The first continuation of a beam stays in its row; others take rows of dropped beams, or new ones. */
function goOn(search: Search, running: readonly Continuation[], batch: Batch): void {
  const { rows } = search;
  const written = running.map(continuation => extended(rows, continuation));
  const tokens = running.map(({ parent, token }) => [...rows[parent]!.tokens, token]);
  const parents = running.map(({ parent }) => rows[parent]!);
  const free = rows.filter(row => !parents.includes(row));
  const placed = parents.map((parent, i) => {
    if (parents.indexOf(parent) === i) return parent;
    const row = free.shift() ?? beamRow(search);
    branchRow(batch, parent, row);
    return row;
  });
  for (const row of free) removeRow(batch, row);
  placed.forEach((row, i) => {
    Object.assign(row, { tokens: tokens[i], written: written[i], sum: running[i]!.sum, next: null });
  });
  search.rows = placed;
}

function toAnswer({ settings, answers }: Search, answer: FoundAnswer): BeamAnswer {
  const written = answers.get(answer)!;
  const stopped = settings.stopTokens.includes(answer.continuation.token);
  return {
    written: stopped ? written.slice(0, -1) : written,
    score: answer.score,
    finishReason: stopped ? 'stop' : 'length',
    tokens: written.length,
  };
}
