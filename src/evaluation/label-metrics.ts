// Metrics of class probabilities, for single-label and multi-label classification. Precision, recall and F1 as scikit-learn
// computes them with zero_division=0; the calibration error as in https://arxiv.org/abs/1706.04599, over 15 bins of equal width.
import { largest } from '../serving/head-outputs.ts';
import { type ClassMetrics, ratio, reportMatrix } from './classification.ts';

interface Averages {
  macro_precision: number;
  macro_recall: number;
  macro_f1: number;
  micro_precision: number;
  micro_recall: number;
  micro_f1: number;
}

export interface SingleLabelReport extends Averages {
  /** Mean of -log p(correct class). */
  loss: number;
  accuracy: number;
  per_class: Record<string, ClassMetrics>;
  confusion_matrix: { labels: string[]; columns: string[]; matrix: number[][] };
  expected_calibration_error: number;
}

export interface MultiLabelReport extends Averages {
  /** Mean over texts and classes of -log p(correct decision). */
  loss: number;
  /** Fraction of texts whose classes are all correct. */
  accuracy: number;
  /** Fraction of wrong decisions, one per text and class. */
  hamming_loss: number;
  per_class: Record<string, ClassMetrics>;
  /** For each class [[true negatives, false positives], [false negatives, true positives]]. */
  confusion_matrices: Record<string, number[][]>;
  expected_calibration_error: number;
}

export interface Prediction<Target> {
  /** Of each class. */
  readonly probabilities: ArrayLike<number>;
  /** Index of the class, or the indices of all that apply. */
  readonly target: Target;
}

const SMALLEST = 1e-12;
const logLoss = (probability: number): number => -Math.log(Math.max(SMALLEST, probability));

const mean = (values: readonly number[]): number =>
  ratio(
    values.reduce((sum, value) => sum + value, 0),
    values.length,
  );

/** The prediction is the most probable class. */
export function singleLabelReport(
  predictions: readonly Prediction<number>[],
  labels: readonly string[],
): SingleLabelReport {
  const matrix = labels.map(() => new Array<number>(labels.length).fill(0));
  const guesses = predictions.map(({ probabilities }) => largest(probabilities));
  predictions.forEach(({ target }, i) => {
    matrix[target]![guesses[i]!]! += 1;
  });
  const { accuracy, ...report } = reportMatrix(matrix, labels, labels);
  return {
    loss: mean(predictions.map(({ probabilities, target }) => logLoss(probabilities[target]!))),
    accuracy,
    ...report,
    // With one class per text, each error is a false positive and a false negative.
    micro_precision: accuracy,
    micro_recall: accuracy,
    micro_f1: accuracy,
    expected_calibration_error: calibrationError(
      predictions.map(({ probabilities, target }, i) => ({
        confidence: probabilities[guesses[i]!]!,
        right: guesses[i] === target,
      })),
    ),
  };
}

interface Counts {
  tn: number;
  fp: number;
  fn: number;
  tp: number;
}

const metricsOf = ({ fp, fn, tp }: Counts): ClassMetrics => ({
  precision: ratio(tp, tp + fp),
  recall: ratio(tp, tp + fn),
  f1: ratio(2 * tp, 2 * tp + fp + fn),
  support: tp + fn,
});

/** The prediction is all classes with a probability above 0.5. */
export function multiLabelReport(
  predictions: readonly Prediction<readonly number[]>[],
  labels: readonly string[],
): MultiLabelReport {
  const answers = predictions.map(({ probabilities, target }) =>
    labels.map((_, label) => ({
      probability: probabilities[label]!,
      guess: probabilities[label]! > 0.5,
      truth: target.includes(label),
    })),
  );
  const counts = labels.map((_, label) => countAnswers(answers.map(row => row[label]!)));
  const classes = counts.map(metricsOf);
  const all = metricsOf(
    counts.reduce((sum, each) => ({
      tn: sum.tn + each.tn,
      fp: sum.fp + each.fp,
      fn: sum.fn + each.fn,
      tp: sum.tp + each.tp,
    })),
  );
  const flat = answers.flat();
  return {
    loss: mean(flat.map(({ probability, truth }) => logLoss(truth ? probability : 1 - probability))),
    accuracy: mean(answers.map(row => Number(row.every(({ guess, truth }) => guess === truth)))),
    hamming_loss: mean(flat.map(({ guess, truth }) => Number(guess !== truth))),
    macro_precision: mean(classes.map(({ precision }) => precision)),
    macro_recall: mean(classes.map(({ recall }) => recall)),
    macro_f1: mean(classes.map(({ f1 }) => f1)),
    micro_precision: all.precision,
    micro_recall: all.recall,
    micro_f1: all.f1,
    per_class: Object.fromEntries(labels.map((label, i) => [label, classes[i]!])),
    confusion_matrices: Object.fromEntries(
      labels.map((label, i) => {
        const { tn, fp, fn, tp } = counts[i]!;
        return [label, [[tn, fp], [fn, tp]]]; // biome-ignore format: as matrices are written
      }),
    ),
    expected_calibration_error: calibrationError(
      flat.map(({ probability, truth }) => ({ confidence: probability, right: truth })),
    ),
  };
}

function countAnswers(answers: readonly { guess: boolean; truth: boolean }[]): Counts {
  const count = (guess: boolean, truth: boolean) =>
    answers.filter(answer => answer.guess === guess && answer.truth === truth).length;
  return { tn: count(false, false), fp: count(true, false), fn: count(false, true), tp: count(true, true) };
}

const BINS = 15;

/** Mean |confidence - accuracy| of the bins, weighted by size. A bin includes its upper bound, not its lower. */
export function calibrationError(answers: readonly { confidence: number; right: boolean }[]): number {
  const bins = Array.from({ length: BINS }, () => ({ count: 0, confidence: 0, right: 0 }));
  for (const { confidence, right } of answers) {
    const bin = bins[Math.min(BINS - 1, Math.max(0, Math.ceil(confidence * BINS) - 1))]!;
    bin.count += 1;
    bin.confidence += confidence;
    bin.right += Number(right);
  }
  const gaps = bins.map(({ confidence, right }) => Math.abs(right - confidence));
  return ratio(
    gaps.reduce((sum, gap) => sum + gap, 0),
    answers.length,
  );
}
