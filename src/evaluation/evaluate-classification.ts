// Evaluates a fine-tuned classifier on its validation file, in comparison with a baseline: the label frequencies of the training file.
// Reads model folders and returns metrics; writes nothing.
//
// The report (`evaluation.json`):
//   validation_examples  lines of the file; evaluated_examples  of them, evenly spread; labels  in the order of the classes
//   multi_label  whether a text may have several
//   base  the model that training started from; null if it has no head for these labels
//   base, baseline, fine_tuned  each: see label-metrics.ts
//   examples  a few: input (the last message), reference, predicted, scores by label

import type { LabelledLine } from '../data/labelled.ts';
import type { LabelSet } from '../data/labels.ts';
import { largest, probabilitiesOf } from '../serving/head-outputs.ts';
import type { Evaluation } from './evaluation.ts';
import { multiLabelReport, singleLabelReport } from './label-metrics.ts';
import { SHOWN_EXAMPLES, shownText, spread, tellFile } from './text-outputs.ts';

export interface ClassificationEvaluation extends Evaluation {
  /** Of the training file. */
  readonly training: LabelSet;
}

/** A line and its prediction by a model or the baseline. */
interface Answer {
  readonly line: LabelledLine;
  readonly probabilities: ArrayLike<number>;
}

export async function evaluateClassification(
  evaluation: ClassificationEvaluation,
): Promise<Record<string, unknown> | null> {
  const { multiple, labels } = evaluation.training;
  const { lines, chosen, fineTuned, base } = await tellFile<LabelledLine>(evaluation);
  if (chosen.length === 0) return null;
  const problem = multiple ? 'multiple' : 'single';
  const withOutputs = (outputs: readonly Float32Array[]): Answer[] =>
    chosen.map((line, i) => ({ line, probabilities: probabilitiesOf(outputs[i]!, problem) }));
  const answers = withOutputs(fineTuned);
  const shares = labelShares(evaluation.training);
  return {
    validation_examples: lines,
    evaluated_examples: chosen.length,
    labels,
    multi_label: multiple,
    base: base && report(withOutputs(base), evaluation.training),
    baseline: {
      answers: 'how often each label is in the training file',
      ...report(
        chosen.map(line => ({ line, probabilities: shares })),
        evaluation.training,
      ),
    },
    fine_tuned: report(answers, evaluation.training),
    examples: spread(answers, SHOWN_EXAMPLES).map(answer => show(answer, evaluation.training)),
  };
}

const labelShares = ({ labels, lines, counts }: LabelSet): number[] =>
  labels.map(label => (counts.get(label) ?? 0) / lines);

function report(answers: readonly Answer[], { multiple, labels }: LabelSet) {
  const place = (label: string) => labels.indexOf(label);
  return multiple
    ? multiLabelReport(
        answers.map(({ line, probabilities }) => ({ probabilities, target: line.labels!.map(place) })),
        labels,
      )
    : singleLabelReport(
        answers.map(({ line, probabilities }) => ({ probabilities, target: place(line.label!) })),
        labels,
      );
}

function show({ line, probabilities }: Answer, { multiple, labels }: LabelSet) {
  return {
    input: shownText(line),
    reference: multiple ? line.labels : line.label,
    predicted: multiple ? labels.filter((_, i) => probabilities[i]! > 0.5) : labels[largest(probabilities)],
    scores: Object.fromEntries(labels.map((label, i) => [label, probabilities[i]!])),
  };
}
