// Chooses the layout of a run: the cheapest shapes for its lengths whose measured memory is available.
import { TrainingFailure } from './failure.ts';
import { type CostModel, chooseShapes, rowLengthFor } from './layout.ts';
import { batchesOf, type Plan, totalSteps } from './order.ts';
import type { MicroBatchShape } from './programs.ts';
import type { Trainer } from './trainer.ts';

/** Larger micro-batches are not faster on the devices measured. */
const MAX_TOKENS = 4096;
/** Accelerator memory is not measured. */
const MAX_TOKENS_UNMEASURED = 2048;
const SAMPLE_EXAMPLES = 512;
const SAMPLE_BATCHES = 48;

export interface LayoutCircumstances {
  /** Memory available for micro-batches. */
  readonly availableBytes: number;
  readonly plan: Plan;
  /** Examples of a step per example of the plan. */
  readonly copies: number;
  readonly trainingLengths: ArrayLike<number>;
  readonly validationLengths: ArrayLike<number>;
  readonly maxPositions: number;
  readonly costs: CostModel;
}

interface Measuring {
  readonly trainer: Pick<Trainer, 'measureMemory'>;
}

function longestOf({ trainingLengths, validationLengths }: LayoutCircumstances): number {
  let longest = 1;
  for (const lengths of [trainingLengths, validationLengths])
    for (let i = 0; i < lengths.length; i++) longest = Math.max(longest, lengths[i]!);
  return longest;
}

/** Example lengths of batches spread evenly over the first epoch. */
export function sampleBatches({
  plan,
  trainingLengths,
  copies,
}: Pick<LayoutCircumstances, 'plan' | 'trainingLengths' | 'copies'>): number[][] {
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

/** Throws TrainingFailure if parameters and optimizer state do not fit; nothing is allocated yet. */
export function refuseTooLargeState(trained: number, available: number): void {
  if (trained * STATE_BYTES <= available) return;
  throw new TrainingFailure(
    'insufficient_memory',
    '.hyperparameters.adapter',
    `Training ${trained} parameters needs ${megabytes(trained * STATE_BYTES)} of memory, but only ${megabytes(available)} ` +
      'are available. Train an adapter of lower rank, or run the worker with more memory.',
  );
}

const megabytes = (bytes: number) => `${Math.ceil(bytes / 1e6)} MB`;

function refuse(length: number, needed: number, available: number): never {
  throw new TrainingFailure(
    'insufficient_memory',
    '.hyperparameters.max_length',
    `A row of ${length} tokens needs ${megabytes(needed)} of memory, but only ${megabytes(available)} are available. ` +
      'Lower max_length, set gradient_checkpointing, shorten the longest examples, or run the worker with more memory.',
  );
}

/** Bytes of micro-batches: of one row of the longest length, and of each further one. Linear in between. */
export interface RowMemory {
  readonly length: number;
  readonly first: number;
  readonly further: number;
}

/** Measures a second row if more are wanted. Throws TrainingFailure if not even one fits. */
export async function measureRows(circumstances: LayoutCircumstances & Measuring): Promise<RowMemory> {
  const { trainer, availableBytes } = circumstances;
  const length = rowLengthFor(longestOf(circumstances), circumstances.maxPositions);
  const first = await trainer.measureMemory({ rows: 1, length });
  if (first > availableBytes) refuse(length, first, availableBytes);
  if (mostTokens(choose(circumstances, MAX_TOKENS)) <= length) return { length, first, further: first };
  const two = await trainer.measureMemory({ rows: 2, length });
  return { length, first, further: Math.max(two - first, first / 8) };
}

export const microBatchBytes = ({ length, first, further }: RowMemory, shape: MicroBatchShape): number =>
  first + Math.max(0, (shape.rows * shape.length) / length - 1) * further;

const affordableTokens = ({ length, first, further }: RowMemory, availableBytes: number): number =>
  length * Math.max(1, Math.floor((availableBytes - (first - further)) / further));

const mostTokens = (shapes: readonly MicroBatchShape[]) =>
  Math.max(...shapes.map(({ rows, length }) => rows * length));

const choose = (circumstances: LayoutCircumstances, maxTokens: number): MicroBatchShape[] => {
  const { maxPositions, costs } = circumstances;
  const longest = longestOf(circumstances);
  return chooseShapes({ batches: sampleBatches(circumstances), longest, maxPositions, maxTokens }, costs);
};

/**
 * The cheapest shapes on a device; `memory` is null if not measured. Throws TrainingFailure if not even one row fits.
 */
export function shapesFor(circumstances: LayoutCircumstances, memory: RowMemory | null): MicroBatchShape[] {
  if (memory === null) return choose(circumstances, MAX_TOKENS_UNMEASURED);
  const { availableBytes } = circumstances;
  if (memory.first > availableBytes) refuse(memory.length, memory.first, availableBytes);
  const wanted = choose(circumstances, MAX_TOKENS);
  const affordable = affordableTokens(memory, availableBytes);
  return mostTokens(wanted) <= affordable ? wanted : choose(circumstances, affordable);
}

/** Throws TrainingFailure if not even one row of the longest example fits. */
export const findShapes = async (
  circumstances: LayoutCircumstances & Measuring & { device: string },
): Promise<MicroBatchShape[]> =>
  shapesFor(circumstances, circumstances.device === 'cpu' ? await measureRows(circumstances) : null);
