// Evaluates a fine-tuned regression on its validation file, beside the answer that takes no model: the mean of the training file.
// It reads folders and gives numbers; it writes nothing.
//
// The report (`evaluation.json`):
//   validation_examples  lines of the file; evaluated_examples  of them, evenly spread
//   base  null: a base model has no head; baseline, fine_tuned  each: see regression.ts
//   examples  a few: input (the last thing that was said), reference, predicted

import { createReadStream } from 'node:fs';
import { readLines } from '../data/jsonl.ts';
import type { NumberLine } from '../data/labelled.ts';
import type { Evaluation } from './evaluation.ts';
import { regressionReport } from './regression.ts';
import { SHOWN_EXAMPLES, shownText, spread, tellFile } from './text-outputs.ts';

export interface RegressionEvaluation extends Evaluation {
  readonly trainingFile: string;
}

export async function evaluateRegression(
  evaluation: RegressionEvaluation,
): Promise<Record<string, unknown> | null> {
  const { lines, told } = await tellFile<NumberLine>(evaluation);
  if (told.length === 0) return null;
  const references = told.map(({ line }) => line.value);
  const average = await meanValue(evaluation.trainingFile);
  return {
    validation_examples: lines,
    evaluated_examples: told.length,
    base: null,
    baseline: {
      answers: 'the mean of the training file',
      ...regressionReport(new Array<number>(told.length).fill(average), references),
    },
    fine_tuned: regressionReport(
      told.map(({ outputs }) => outputs[0]!),
      references,
    ),
    examples: spread(told, SHOWN_EXAMPLES).map(({ line, outputs }) => ({
      input: shownText(line),
      reference: line.value,
      predicted: outputs[0]!,
    })),
  };
}

async function meanValue(file: string): Promise<number> {
  let [sum, count] = [0, 0];
  for await (const line of readLines(createReadStream(file, { highWaterMark: 1 << 20 }))) {
    if ('problem' in line) continue;
    sum += (JSON.parse(line.text) as NumberLine).value;
    count += 1;
  }
  return sum / count;
}
