// Finds the layout of a run: the cheapest shapes for its lengths among those whose measured memory there is.
import { TrainingFailure } from './failure.ts';
import { type CostModel, chooseShapes, rowLengthFor } from './layout.ts';
import { memoryToUse } from './memory.ts';
import { batchesOf, type Plan, totalSteps } from './order.ts';
import type { MicroBatchShape } from './programs.ts';
import type { Trainer } from './trainer.ts';

/** More tokens at once are not faster on the devices measured. */
const MAX_TOKENS = 4096;
/** The memory of an accelerator is not measured from here. */
const MAX_TOKENS_UNMEASURED = 2048;
const SAMPLE_EXAMPLES = 512;
const SAMPLE_BATCHES = 48;

export interface LayoutCircumstances {
  readonly trainer: Pick<Trainer, 'measureMemory'>;
  readonly device: string;
  readonly memoryBudgetBytes: number | null;
  readonly plan: Plan;
  /** Examples of a step for each that the plan names. */
  readonly copies: number;
  readonly trainingLengths: ArrayLike<number>;
  readonly validationLengths: ArrayLike<number>;
  readonly maxPositions: number;
  readonly costs: CostModel;
}

function longestOf(lengths: ArrayLike<number>): number {
  let longest = 1;
  for (let i = 0; i < lengths.length; i++) longest = Math.max(longest, lengths[i]!);
  return longest;
}

/** Batches of the first epoch, evenly spread. */
function sampleBatches({ plan, trainingLengths, copies }: LayoutCircumstances): number[][] {
  const examplesOf = batchesOf({ ...plan, epochs: 1 });
  const steps = totalSteps({ ...plan, epochs: 1 });
  const count = Math.min(SAMPLE_BATCHES, steps, Math.ceil(SAMPLE_EXAMPLES / (plan.batchSize * copies)));
  return Array.from({ length: count }, (_, i) =>
    Array.from(examplesOf(1 + Math.floor((i * steps) / count))).flatMap(example =>
      new Array<number>(copies).fill(trainingLengths[example]!),
    ),
  );
}

/** Numbers, two moments, and gradient sums twice: five floats for each trained number. */
export const STATE_BYTES = 20;

/** Throws TrainingFailure when the trained numbers and their optimizer do not fit; nothing is allocated yet. */
export function refuseTooLargeState(trained: number, memoryBudgetBytes: number | null): void {
  const available = memoryToUse(memoryBudgetBytes);
  if (trained * STATE_BYTES <= available) return;
  throw new TrainingFailure(
    'insufficient_memory',
    '.hyperparameters.adapter',
    `Training ${trained} numbers needs ${megabytes(trained * STATE_BYTES)} of memory, ${megabytes(available)} can be ` +
      'used. Train an adapter of lower rank, or run the worker with more memory.',
  );
}

const megabytes = (bytes: number) => `${Math.ceil(bytes / 1e6)} MB`;

function refuse(length: number, needed: number, available: number): never {
  throw new TrainingFailure(
    'insufficient_memory',
    '.hyperparameters.max_length',
    `A row of ${length} tokens needs ${megabytes(needed)} of memory, ${megabytes(available)} can be used. ` +
      'Lower max_length, shorten the longest examples, or run the worker with more memory.',
  );
}

/** Tokens that fit at once: one row of the longest is measured, two where more are wanted, and the rest is a straight line. */
async function affordableTokens(circumstances: LayoutCircumstances, length: number, wanted: number) {
  const { trainer, memoryBudgetBytes } = circumstances;
  const available = memoryToUse(memoryBudgetBytes);
  const one = await trainer.measureMemory({ rows: 1, length });
  if (one > available) refuse(length, one, available);
  if (wanted <= length) return length;
  const two = await trainer.measureMemory({ rows: 2, length });
  const perRow = Math.max(two - one, one / 8);
  return length * Math.max(1, Math.floor((available - (one - perRow)) / perRow));
}

const mostTokens = (shapes: readonly MicroBatchShape[]) =>
  Math.max(...shapes.map(({ rows, length }) => rows * length));

/** Throws TrainingFailure when not even one row of the longest example fits. */
export async function findShapes(circumstances: LayoutCircumstances): Promise<MicroBatchShape[]> {
  const { trainingLengths, validationLengths, maxPositions, costs, device } = circumstances;
  const longest = Math.max(longestOf(trainingLengths), longestOf(validationLengths));
  const options = { batches: sampleBatches(circumstances), longest, maxPositions };
  const choose = (maxTokens: number) => chooseShapes({ ...options, maxTokens }, costs);
  if (device !== 'cpu') return choose(MAX_TOKENS_UNMEASURED);
  const wanted = choose(MAX_TOKENS);
  const affordable = await affordableTokens(
    circumstances,
    rowLengthFor(longest, maxPositions),
    mostTokens(wanted),
  );
  return mostTokens(wanted) <= affordable ? wanted : choose(affordable);
}
