// Beam search: several beginnings of an answer are kept, and of all their continuations the most probable. It computes with scores
// alone; models and caches are its callers'. The same steps as transformers' `_beam_search` (generation/utils.py), whose answers it gives.

export interface BeamSettings {
  /** Beginnings that are kept, and answers that are looked for. */
  readonly beams: number;
  /** Scores are divided by length ** this: above 0 longer answers gain. */
  readonly lengthPenalty: number;
  /** true: ends with as many answers as beams; 'never': only when no better one can come; false: when none is likely to. */
  readonly earlyStopping: boolean | 'never';
  readonly maxTokens: number;
  readonly stopTokens: readonly number[];
}

/** What may come next after a beginning. */
export interface NextToken {
  readonly token: number;
  readonly logprob: number;
}

/** A beginning with one token more. */
export interface Continuation {
  /** Place of the beginning among those that were running. */
  readonly parent: number;
  readonly token: number;
  /** Log-probability of the whole. */
  readonly sum: number;
}

export interface FoundAnswer {
  /** The last beginning and its last token; what came before is its caller's to know. */
  readonly continuation: Continuation;
  /** The step that found it. */
  readonly length: number;
  readonly score: number;
}

export interface BeamStep {
  /** The beginnings to go on from, the most probable first; none when the search is over. */
  readonly running: readonly Continuation[];
  /** Answers that this step has added. */
  readonly added: readonly FoundAnswer[];
  /** All that are kept, the best first. */
  readonly found: readonly FoundAnswer[];
}

/** How many tokens of every beginning are worth a thought: enough to go on with when all the best of them end. */
export const candidatesOf = ({ beams, stopTokens }: BeamSettings): number =>
  Math.max(2, 1 + stopTokens.length) * beams;

/**
 * One step. `sums` are the running beginnings' log-probabilities, `next` what may follow each, the most probable first; `length`
 * counts the tokens that answers have after this step.
 */
export function stepBeams(
  settings: BeamSettings,
  length: number,
  sums: readonly number[],
  next: readonly (readonly NextToken[])[],
  found: readonly FoundAnswer[],
): BeamStep {
  const ranked = next
    .flatMap((tokens, parent) =>
      tokens.map(({ token, logprob }) => ({ parent, token, sum: sums[parent]! + logprob })),
    )
    .sort((a, b) => b.sum - a.sum)
    .slice(0, candidatesOf(settings));
  const ends = ({ token }: Continuation) =>
    length >= settings.maxTokens || settings.stopTokens.includes(token);
  const running = ranked.filter(each => !ends(each)).slice(0, settings.beams);
  const ended = ranked
    .slice(0, settings.beams)
    .filter(ends)
    .map(continuation => ({
      continuation,
      length,
      score: continuation.sum / length ** settings.lengthPenalty,
    }));
  const kept = [...found, ...ended].sort((a, b) => b.score - a.score).slice(0, settings.beams);
  return {
    running: goesOn(settings, length, running, kept) ? running : [],
    added: ended.filter(answer => kept.includes(answer)),
    found: kept,
  };
}

function goesOn(
  { beams, lengthPenalty, earlyStopping, maxTokens }: BeamSettings,
  length: number,
  running: readonly Continuation[],
  found: readonly FoundAnswer[],
): boolean {
  if (running.length === 0) return false;
  if (found.length < beams) return true;
  if (earlyStopping === true) return false;
  // The best that a running one could come to, as transformers estimates it.
  const reached = earlyStopping === 'never' && lengthPenalty > 0 ? maxTokens : length;
  return running[0]!.sum / reached ** lengthPenalty > found.at(-1)!.score;
}
