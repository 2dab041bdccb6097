// Log-probabilities of tokens under the model: before temperature, penalties and biases.

export interface TokenLogprob {
  token: number;
  logprob: number;
  /** The requested number of most probable tokens, best first. */
  top: { token: number; logprob: number }[];
}

export function logSumExp(logits: Float32Array): number {
  let largest = -Infinity;
  for (const logit of logits) if (logit > largest) largest = logit;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - largest);
  return largest + Math.log(sum);
}

/** Indices of the `count` largest numbers, largest first, lower indices first among equals. */
export function largest(values: Float32Array, count: number): number[] {
  const best: number[] = [];
  if (count === 0) return best;
  for (let i = 0; i < values.length; i++) {
    if (best.length === count && values[i]! <= values[best[count - 1]!]!) continue;
    let at = best.length;
    while (at > 0 && values[i]! > values[best[at - 1]!]!) at--;
    best.splice(at, 0, i);
    if (best.length > count) best.pop();
  }
  return best;
}

/** Log-probabilities of `token` and of the `topCount` most probable tokens, from logits [vocab]. */
export function tokenLogprob(logits: Float32Array, token: number, topCount: number): TokenLogprob {
  const total = logSumExp(logits);
  return {
    token,
    logprob: logits[token]! - total,
    top: largest(logits, topCount).map(each => ({ token: each, logprob: logits[each]! - total })),
  };
}
