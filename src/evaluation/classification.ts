// Classification metrics over answers that are one of a few labels. Averages are macro, over the labels of the
// references, as scikit-learn computes them with those `labels` and zero_division=0.

/** With more distinct answers than this, the task is treated as free text. */
export const MAX_LABELS = 50;
const MAX_LABEL_LENGTH = 100;
/** With fewer references per label than this on average, the task is not treated as classification. */
const MIN_EXAMPLES_PER_LABEL = 2;

export interface ClassMetrics {
  precision: number;
  recall: number;
  f1: number;
  /** References with this label. */
  support: number;
}

export interface ClassificationReport {
  accuracy: number;
  macro_precision: number;
  macro_recall: number;
  macro_f1: number;
  per_class: Record<string, ClassMetrics>;
  /** `matrix[i][j]`: references with label i answered with `columns[j]`; the last column counts answers that are no label. */
  confusion_matrix: { labels: string[]; columns: string[]; matrix: number[][] };
}

/** Column of answers that are no label; spelled so that it cannot be mistaken for one. */
export const OTHER = '(other)';

/** The labels, sorted, when the references look like a classification; otherwise null. */
export function findLabels(references: readonly string[]): string[] | null {
  const labels = [...new Set(references.map(reference => reference.trim()))].sort();
  const few = labels.length <= MAX_LABELS && labels.length * MIN_EXAMPLES_PER_LABEL <= references.length;
  const short = labels.every(label => label.length <= MAX_LABEL_LENGTH && !label.includes('\n'));
  return labels.length >= 2 && few && short ? labels : null;
}

function countConfusions(
  predictions: readonly string[],
  references: readonly string[],
  labels: readonly string[],
): number[][] {
  const index = new Map(labels.map((label, i) => [label, i]));
  const matrix = labels.map(() => new Array<number>(labels.length + 1).fill(0));
  references.forEach((reference, i) => {
    const row = index.get(reference.trim());
    if (row === undefined) throw new Error(`reference ${i} (${reference}) is not among the labels`);
    matrix[row]![index.get(predictions[i]!.trim()) ?? labels.length]! += 1;
  });
  return matrix;
}

export const ratio = (part: number, whole: number): number => (whole === 0 ? 0 : part / whole);

function classMetrics(matrix: readonly number[][], label: number): ClassMetrics {
  const hits = matrix[label]![label]!;
  const predicted = matrix.reduce((sum, row) => sum + row[label]!, 0);
  const support = matrix[label]!.reduce((sum, count) => sum + count, 0);
  return {
    precision: ratio(hits, predicted),
    recall: ratio(hits, support),
    f1: ratio(2 * hits, predicted + support),
    support,
  };
}

/** `labels` must include every reference; see `findLabels`. Any other answer is wrong. */
export function classify(
  predictions: readonly string[],
  references: readonly string[],
  labels: readonly string[],
): ClassificationReport {
  const matrix = countConfusions(predictions, references, labels);
  return reportMatrix(matrix, labels, [...labels, OTHER]);
}

/** Of `matrix[i][j]`: references with label i answered with column j. The first columns are the labels. */
export function reportMatrix(
  matrix: number[][],
  labels: readonly string[],
  columns: readonly string[],
): ClassificationReport {
  const classes = labels.map((_, i) => classMetrics(matrix, i));
  const mean = (metric: keyof ClassMetrics): number =>
    ratio(
      classes.reduce((sum, each) => sum + each[metric], 0),
      classes.length,
    );
  const hits = labels.reduce((sum, _, i) => sum + matrix[i]![i]!, 0);
  const all = matrix.flat().reduce((sum, count) => sum + count, 0);
  return {
    accuracy: ratio(hits, all),
    macro_precision: mean('precision'),
    macro_recall: mean('recall'),
    macro_f1: mean('f1'),
    per_class: Object.fromEntries(labels.map((label, i) => [label, classes[i]!])),
    confusion_matrix: { labels: [...labels], columns: [...columns], matrix },
  };
}
