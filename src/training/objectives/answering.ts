// Objective of encoder-decoders: the tokens of an answer, given its source and the preceding tokens.

import { createReadStream } from 'node:fs';
import { answerForm, chooseShares, type RowShares } from '../../data/answers.ts';
import { DatasetError, examplesOf } from '../../data/dataset.ts';
import type { Example, ExampleForm, Sequence } from '../../data/example-form.ts';
import { readLines } from '../../data/jsonl.ts';
import { parseOrNull } from '../../data/labels.ts';
import { checkLine, lineFormat } from '../../data/line-rules.ts';
import type { Tokenizer } from '../../data/tokenizer.ts';
import { crossEntropySums } from '../../engine/ops.ts';
import type { HostArrays, TensorSpec } from '../../engine/program.ts';
import { tf } from '../../engine/tf.ts';
import { byGeneration } from '../../evaluation/generate.ts';
import { answerRules } from '../../models/answer-rules.ts';
import type { LinearLayer } from '../../models/architecture.ts';
import { type EncoderDecoderModel, requireEncoderDecoder } from '../../models/registry.ts';
import type { MicroBatchPlan } from '../layout.ts';
import { MEASURES } from '../measures.ts';
import { packTokens, tokenInputs } from '../micro-batch.ts';
import type { MicroBatchShape } from '../programs.ts';
import type { Objective, ObjectiveInputs } from './objective.ts';

/** Lengths are multiples of this, like those of rows. */
const STEP = 8;

const part = ({ rows, length }: MicroBatchShape, share: number): MicroBatchShape => ({
  rows,
  length: STEP * Math.ceil((length * share) / STEP),
});

const SOURCE_NAMES = { tokens: 'sourceTokens', positions: 'sourcePositions', segments: 'sourceSegments' };

/** `tokenInputs` for the answers; the same without targets for the sources. Their segment numbers correspond. */
function answerInputs(shape: MicroBatchShape, shares: RowShares): Record<string, TensorSpec> {
  const { tokens } = tokenInputs(part(shape, shares.source));
  const sources = Object.values(SOURCE_NAMES).map(name => [name, tokens!]);
  return { ...tokenInputs(part(shape, shares.answer)), ...Object.fromEntries(sources) };
}

function packAnswers(plan: MicroBatchPlan, examples: readonly Example[], shares: RowShares): HostArrays {
  const packed = (share: number, pick: (example: Example) => Sequence): HostArrays =>
    packTokens(
      { ...plan, shape: part(plan.shape, share) },
      examples.map(example => ({ sequences: [pick(example)], values: [] })),
    );
  const sources = packed(shares.source, ({ sequences }) => sequences[0]!);
  const named = Object.entries(SOURCE_NAMES).map(([name, own]) => [own, sources[name]!]);
  return { ...packed(shares.answer, ({ sequences }) => sequences[1]!), ...Object.fromEntries(named) };
}

/** Score: tokens predicted correctly. */
export function answering(model: EncoderDecoderModel, shares: RowShares): Objective {
  const { hiddenSize } = model.shape;
  return {
    form: answerForm(answerRules(model).start, shares),
    measure: MEASURES.supervised,
    head: null,
    unused: [],
    inputs: shape => answerInputs(shape, shares),
    pack: (plan, examples) => packAnswers(plan, examples, shares),
    readLength: (shape, { ofSource }: LinearLayer) =>
      part(shape, ofSource ? shares.source : shares.answer).length,
    loss({ weight, layers }, inputs) {
      const read = inputs.sourceSegments!;
      const states = model.encode(inputs.sourceTokens!, inputs.sourcePositions!, layers(read));
      const decoder = layers(inputs.segments!, { states, segments: read });
      const hidden = tf.reshape(model.hidden(inputs.tokens!, inputs.positions!, decoder), [-1, hiddenSize]);
      const { lossSum, correct, count } = crossEntropySums(
        hidden,
        weight(model.outputWeight),
        tf.reshape(inputs.targets!, [-1]),
        model.logitSoftcap,
        model.logitBias === null ? null : tf.reshape(weight(model.logitBias), [-1]),
      );
      return { lossSum, score: correct, count };
    },
    ...byGeneration(),
  };
}

/** Lines sampled for the lengths of a file. */
const SAMPLED_LINES = 512;

const EQUAL: RowShares = { source: 1, answer: 1 };

/** The shares depend only on the file's first lines, so a resumed run has the same. */
export async function openAnswering({
  model: given,
  tokenizer,
  trainingFile,
}: ObjectiveInputs): Promise<Objective> {
  const model = requireEncoderDecoder(given);
  const lengths = await sampleLengths(trainingFile, answerForm(answerRules(model).start, EQUAL), tokenizer);
  return answering(model, lengths.length > 0 ? chooseShares(lengths) : EQUAL);
}

/** Malformed lines are skipped here; they are reported elsewhere. */
async function sampleLengths(
  file: string,
  form: ExampleForm,
  tokenizer: Tokenizer,
): Promise<[source: number, answer: number][]> {
  const lengths: [number, number][] = [];
  let lines = 0;
  for await (const line of readLines(createReadStream(file))) {
    if ('problem' in line) continue;
    if (lines++ === SAMPLED_LINES) break;
    for (const { sequences } of readable(line.text, line.number, form, tokenizer))
      lengths.push([sequences[0]!.tokens.length, sequences[1]!.tokens.length]);
  }
  return lengths;
}

function readable(text: string, number: number, form: ExampleForm, tokenizer: Tokenizer): Example[] {
  const line = parseOrNull(text);
  const format = lineFormat(line);
  if ((format !== 'chat' && format !== 'completion') || checkLine(line, format).length > 0) return [];
  try {
    return examplesOf(line, number, { form, tokenizer });
  } catch (error) {
    if (error instanceof DatasetError) return [];
    throw error;
  }
}
