// Metrics of classes and numbers against scikit-learn, SciPy and NumPy (heads.py wrote heads.json).
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { multiLabelReport, singleLabelReport } from '../../src/evaluation/label-metrics.ts';
import { regressionReport } from '../../src/evaluation/regression.ts';

interface Averages {
  name: string;
  loss: number;
  accuracy: number;
  expected_calibration_error: number;
  macro_precision: number;
  macro_recall: number;
  macro_f1: number;
  micro_precision: number;
  micro_recall: number;
  micro_f1: number;
  per_class: { precision: number; recall: number; f1: number; support: number }[];
  probabilities: number[][];
}
interface Single extends Averages {
  targets: number[];
  confusion: number[][];
}
interface Multiple extends Averages {
  targets: number[][];
  confusion: number[][][];
  hamming_loss: number;
}
interface Regression {
  name: string;
  references: number[];
  predictions: number[];
  mean_absolute_error: number;
  root_mean_squared_error: number;
  r2: number | null;
  spearman: number | null;
}
const golden = JSON.parse(readFileSync(new URL('heads.json', import.meta.url), 'utf8')) as {
  single: Single[];
  multiple: Multiple[];
  regression: Regression[];
};

const labelsOf = ({ per_class }: Averages) => per_class.map((_, i) => `label ${i}`);

/** Every number of `expected`, to 12 digits. */
function expectClose(found: object, expected: object, path = ''): void {
  for (const [key, value] of Object.entries(expected)) {
    const actual = (found as Record<string, unknown>)[key];
    if (typeof value === 'number') expect(actual, path + key).toBeCloseTo(value, 12);
    else if (value === null) expect(actual, path + key).toBeNull();
    else expectClose(actual as object, value as object, `${path}${key}.`);
  }
}

const byLabel = (fixture: Averages) =>
  Object.fromEntries(labelsOf(fixture).map((label, i) => [label, fixture.per_class[i]!]));

describe('one class a text', () => {
  test.each(golden.single)('$name', fixture => {
    const { name: _, probabilities, targets, confusion, per_class: __, ...numbers } = fixture;
    const labels = labelsOf(fixture);
    const predictions = targets.map((target, i) => ({ target, probabilities: probabilities[i]! }));
    const report = singleLabelReport(predictions, labels);
    expectClose(report, { ...numbers, per_class: byLabel(fixture) });
    expect(report.confusion_matrix).toEqual({ labels, columns: labels, matrix: confusion });
  });
});

describe('any number of classes a text', () => {
  test.each(golden.multiple)('$name', fixture => {
    const { name: _, probabilities, targets, confusion, per_class: __, ...numbers } = fixture;
    const labels = labelsOf(fixture);
    const predictions = targets.map((target, i) => ({ target, probabilities: probabilities[i]! }));
    const report = multiLabelReport(predictions, labels);
    expectClose(report, { ...numbers, per_class: byLabel(fixture) });
    expect(Object.values(report.confusion_matrices)).toEqual(confusion);
  });
});

describe('numbers', () => {
  test.each(golden.regression)('$name', ({ name: _, references, predictions, ...numbers }) => {
    expectClose(regressionReport(predictions, references), numbers);
  });
});
