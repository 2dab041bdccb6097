// Retrieval metrics of given embeddings: recall, mean reciprocal rank, normalised discounted cumulative gain.

export interface Query {
  readonly vector: Float32Array;
  /** Indices of the relevant texts in the corpus; at least one. */
  readonly relevant: ReadonlySet<number>;
}

export interface RetrievalReport {
  /** Fraction of relevant texts among the first 1, 5, 10 results. */
  recall_at_1: number;
  recall_at_5: number;
  recall_at_10: number;
  /** 1 / rank of the first relevant text, over the whole corpus. */
  mrr: number;
  ndcg_at_10: number;
}

/** Returns the 1-based ranks of the relevant texts of a query, ascending; ties are ranked by corpus order. Expects unit vectors. */
export function ranksOf({ vector, relevant }: Query, corpus: readonly Float32Array[]): number[] {
  const scores = corpus.map(text => dot(vector, text));
  const rankOf = (place: number): number => {
    const own = scores[place]!;
    return scores.reduce((rank, score, i) => rank + (score > own || (score === own && i < place) ? 1 : 0), 1);
  };
  return Array.from(relevant, rankOf).sort((a, b) => a - b);
}

function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

const recallAt = (k: number, ranks: readonly number[]): number =>
  ranks.filter(rank => rank <= k).length / ranks.length;

const gain = (rank: number): number => 1 / Math.log2(rank + 1);
const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** With binary relevance. */
function ndcgAt(k: number, ranks: readonly number[]): number {
  const ideal = Array.from({ length: Math.min(k, ranks.length) }, (_, i) => gain(i + 1));
  return sum(ranks.filter(rank => rank <= k).map(gain)) / sum(ideal);
}

/** `ranks` of each query. */
export function retrievalReport(ranks: readonly (readonly number[])[]): RetrievalReport {
  const mean = (of: (ranks: readonly number[]) => number): number => sum(ranks.map(of)) / ranks.length;
  return {
    recall_at_1: mean(own => recallAt(1, own)),
    recall_at_5: mean(own => recallAt(5, own)),
    recall_at_10: mean(own => recallAt(10, own)),
    mrr: mean(own => 1 / own[0]!),
    ndcg_at_10: mean(own => ndcgAt(10, own)),
  };
}
