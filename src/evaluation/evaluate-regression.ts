// Evaluates a fine-tuned regression model on its validation file, in comparison with a baseline: the mean of the training file.
// Reads model folders and returns metrics; writes nothing.
//
// The report (`evaluation.json`):
//   validation_examples  lines of the file; evaluated_examples  of them, evenly spread
//   base  the model that training started from; null if it is no regression model
//   base, baseline, fine_tuned  each: see regression.ts
//   examples  a few: input (the last message), reference, predicted

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
  const { lines, chosen, fineTuned, base } = await tellFile<NumberLine>(evaluation);
  if (chosen.length === 0) return null;
  const references = chosen.map(({ value }) => value);
  const average = await meanValue(evaluation.trainingFile);
  const reportOf = (outputs: readonly Float32Array[]) =>
    regressionReport(
      outputs.map(([value]) => value!),
      references,
    );
  return {
    validation_examples: lines,
    evaluated_examples: chosen.length,
    base: base && reportOf(base),
    baseline: {
      answers: 'the mean of the training file',
      ...regressionReport(new Array<number>(chosen.length).fill(average), references),
    },
    fine_tuned: reportOf(fineTuned),
    examples: spread([...chosen.entries()], SHOWN_EXAMPLES).map(([i, line]) => ({
      input: shownText(line),
      reference: line.value,
      predicted: fineTuned[i]![0]!,
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
