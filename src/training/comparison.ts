// Contrastive losses, which compare the examples of a batch, computed exactly however the batch is cut into
// micro-batches (GradCache, https://arxiv.org/abs/2101.06983): first all vectors of the batch, then the loss and its
// gradient with respect to each vector, then micro-batch by micro-batch the gradients of the vectors times those. The
// first two are here; the third is an ordinary gradient program.
import type { Example } from '../data/example-form.ts';
import type { Engine, Program, RunArrays } from '../engine/program.ts';
import { tf } from '../engine/tf.ts';
import { openCompiled } from './compiled.ts';
import type { MicroBatchPlan } from './layout.ts';
import { startsIn } from './micro-batch.ts';
import type { BatchLoss } from './objectives/objective.ts';
import { type MicroBatchShape, type TrainedModel, vectorsProgram } from './programs.ts';
import { type LossSums, sumsOf } from './sums.ts';

interface Compared {
  readonly sums: LossSums;
  /** For each micro-batch, d loss / d vector of each of its texts [texts, hiddenSize]; zeros for absent texts. */
  readonly slopes: readonly Float32Array[];
}

export interface Comparison {
  /** `fedWith` returns the inputs of a micro-batch, parameters included. */
  compare(
    plan: readonly MicroBatchPlan[],
    examples: readonly Example[],
    fedWith: (part: MicroBatchPlan, index: number) => RunArrays,
  ): Promise<Compared>;
  /** The vectors of a micro-batch of this shape [texts, hiddenSize]. */
  vectorsOf(shape: MicroBatchShape, fed: RunArrays): Promise<Float32Array>;
  keepShapes(shapes: readonly MicroBatchShape[]): Promise<void>;
  close(): Promise<void>;
}

export interface ComparisonOptions {
  readonly engine: Engine;
  readonly trained: TrainedModel;
  readonly batch: BatchLoss;
  /** Whether dropout is applied. */
  readonly training: boolean;
  /** Awaited before every run of a program. */
  between(): Promise<void>;
}

/** Batches are padded to a power of two, so that few programs are needed. */
const paddedTo = (examples: number): number => 2 ** Math.ceil(Math.log2(examples));

export function openComparison(options: ComparisonOptions): Comparison {
  const { engine, trained, batch, training, between } = options;
  const width = trained.model.shape.hiddenSize;
  const { vectors: each } = batch;
  const vectorPrograms = openCompiled(engine, (shape: MicroBatchShape) =>
    vectorsProgram(trained, shape, training),
  );
  const comparisons = openCompiled(engine, (examples: number) => comparisonProgram(batch, examples, width));

  async function vectorsOf(shape: MicroBatchShape, fed: RunArrays): Promise<Float32Array> {
    const program = await vectorPrograms.get(shape);
    return (await program.run(fed)).vectors as Float32Array;
  }

  return {
    vectorsOf,
    async compare(plan, examples, fedWith) {
      const padded = paddedTo(examples.length);
      const vectors = new Float32Array(padded * each * width);
      const texts = plan.map(part => textsOf(part, examples, each));
      for (const [index, part] of plan.entries()) {
        await between();
        const made = await vectorsOf(part.shape, fedWith(part, index));
        for (const { text, at } of texts[index]!)
          vectors.set(made.subarray(text * width, (text + 1) * width), at * width);
      }
      await between();
      const present = presentTexts(examples, padded);
      const { slopes, ...sums } = await (await comparisons.get(padded)).run({ vectors, present });
      return {
        sums: sumsOf(sums),
        slopes: plan.map((part, index) => {
          const own = new Float32Array(batch.texts(part.shape) * width);
          for (const { text, at } of texts[index]!)
            own.set((slopes as Float32Array).subarray(at * width, (at + 1) * width), text * width);
          return own;
        }),
      };
    },
    keepShapes: vectorPrograms.close,
    async close() {
      await vectorPrograms.close();
      await comparisons.close();
    },
  };
}

/** Indices of the texts of a micro-batch: `text` in its own vectors, `at` in those of the batch. */
function textsOf(
  part: MicroBatchPlan,
  examples: readonly Example[],
  each: number,
): { text: number; at: number }[] {
  return startsIn(part, examples).flatMap(({ place }, index) =>
    Array.from({ length: each }, (_, i) => ({ text: index * each + i, at: place * each + i })),
  );
}

/** [examples, vectors]: 1 where there is a text. */
function presentTexts(examples: readonly Example[], padded: number): Float32Array {
  const each = examples[0]!.sequences.length;
  const present = new Float32Array(padded * each);
  examples.forEach(({ sequences }, i) => {
    present.set(
      sequences.map(({ tokens }) => (tokens.length > 0 ? 1 : 0)),
      i * each,
    );
  });
  return present;
}

/**
 * vectors [examples, vectors, width], present [examples, vectors] -> the loss's sums, and gradients shaped like the
 * vectors.
 */
function comparisonProgram(batch: BatchLoss, examples: number, width: number): Program {
  return {
    name: `comparison-${examples}`,
    inputs: {
      vectors: { shape: [examples, batch.vectors, width], dtype: 'float32' },
      present: { shape: [examples, batch.vectors], dtype: 'float32' },
    },
    weights: {},
    run({ vectors, present }) {
      const sums = batch.loss(vectors!, present!);
      const [slopes] = tf.grads(((given: typeof vectors) => batch.loss(given!, present!).lossSum) as never)([
        vectors!,
      ]);
      return { ...sums, slopes: slopes! };
    },
  };
}
