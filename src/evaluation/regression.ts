// Regression metrics, computed as by scikit-learn (MAE, RMSE, R2) and SciPy (Spearman's correlation).

export interface RegressionReport {
  mean_absolute_error: number;
  root_mean_squared_error: number;
  /** 1 - squared errors / squared distances from the mean; null where all references are the same. */
  r2: number | null;
  /** Correlation of ranks; null where all references or all predictions are the same. */
  spearman: number | null;
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
const mean = (values: readonly number[]): number => sum(values) / values.length;

export function regressionReport(
  predictions: readonly number[],
  references: readonly number[],
): RegressionReport {
  const errors = predictions.map((prediction, i) => prediction - references[i]!);
  const squares = sum(errors.map(error => error * error));
  const centre = mean(references);
  const spread = sum(references.map(reference => (reference - centre) ** 2));
  return {
    mean_absolute_error: mean(errors.map(Math.abs)),
    root_mean_squared_error: Math.sqrt(squares / errors.length),
    r2: spread === 0 ? null : 1 - squares / spread,
    spearman: correlation(ranks(predictions), ranks(references)),
  };
}

/** Pearson's; null where one side is constant. */
function correlation(a: readonly number[], b: readonly number[]): number | null {
  const [meanA, meanB] = [mean(a), mean(b)];
  const covariance = sum(a.map((value, i) => (value - meanA) * (b[i]! - meanB)));
  const variance = sum(a.map(value => (value - meanA) ** 2)) * sum(b.map(value => (value - meanB) ** 2));
  return variance === 0 ? null : covariance / Math.sqrt(variance);
}

/** 1-based; ties get their mean rank. */
function ranks(values: readonly number[]): number[] {
  const order = values.map((_, i) => i).sort((a, b) => values[a]! - values[b]!);
  const ranked = new Array<number>(values.length);
  for (let first = 0; first < order.length; ) {
    let end = first + 1;
    while (end < order.length && values[order[end]!] === values[order[first]!]) end += 1;
    for (let i = first; i < end; i++) ranked[order[i]!] = (first + 1 + end) / 2;
    first = end;
  }
  return ranked;
}
