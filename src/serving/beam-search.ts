// Beam search over scores; models and caches are left to the caller. Follows transformers' `_beam_search` (generation/utils.py) and
// gives the same answers.

export interface BeamSettings {
  /** Number of running beams and of finished answers. */
  readonly beams: number;
  /** Scores are divided by length ** this: values above 0 favour longer answers. */
  readonly lengthPenalty: number;
  /** Stops once there are as many answers as beams (true), no better one is possible ('never') or none is likely (false). */
  readonly earlyStopping: boolean | 'never';
  readonly maxTokens: number;
  readonly stopTokens: readonly number[];
}

/** A candidate for the next token of a beam. */
export interface NextToken {
  readonly token: number;
  readonly logprob: number;
}

/** A beam extended by one token. */
export interface Continuation {
  /** Index of the beam that it extends. */
  readonly parent: number;
  readonly token: number;
  /** Cumulative log-probability. */
  readonly sum: number;
}

export interface FoundAnswer {
  /** The last token and its beam; the caller keeps the earlier tokens. */
  readonly continuation: Continuation;
  /** The step that finished it. */
  readonly length: number;
  readonly score: number;
}

export interface BeamStep {
  /** Beams to continue, most probable first; empty when the search has ended. */
  readonly running: readonly Continuation[];
  /** Answers that this step added. */
  readonly added: readonly FoundAnswer[];
  /** The best answers so far, best first. */
  readonly found: readonly FoundAnswer[];
}

/** Candidates per beam: enough to continue if all the best ones are stop tokens. */
export const candidatesOf = ({ beams, stopTokens }: BeamSettings): number =>
  Math.max(2, 1 + stopTokens.length) * beams;

/**
 * One step. `sums`: log-probabilities of the running beams; `next`: candidates of each, most probable first; `length`: tokens of an
 * answer after this step.
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
  // The best attainable score of a running beam, as estimated by transformers.
  const reached = earlyStopping === 'never' && lengthPenalty > 0 ? maxTokens : length;
  return running[0]!.sum / reached ** lengthPenalty > found.at(-1)!.score;
}
