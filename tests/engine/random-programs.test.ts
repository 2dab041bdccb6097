// Random programs and their gradients, the same ones in every run: engines with all of their passes give the numbers of the program run
// eagerly. It finds what passes make of each other's results, which tests of single passes do not see.
import type { Tensor } from '@tensorflow/tfjs';
import { describe, test } from 'vitest';
import { openCpuEngine } from '../../src/engine/cpu.ts';
import { rmsNorm } from '../../src/engine/ops.ts';
import { tf } from '../../src/engine/tf.ts';
import { enginesUnderTest } from './engines.ts';
import { expectAlike, f32, programOf, runOn } from './programs.ts';

const PROGRAMS = 120;
/** Larger values are not used further. */
const MOST_NUMBERS = 400;

/** Inputs from scalars to three axes, some with an axis of length 1. */
const GIVEN = [f32([2, 3]), f32([3], 2), f32([2, 3, 4], 3), f32([3, 4], 4), f32([1, 3], 5), f32([], 6)];

interface Random {
  below(limit: number): number;
  pick<T>(items: readonly T[]): T;
}

/** A linear congruential generator; its upper bits are random enough to choose by. */
function randomOf(seed: number): Random {
  let state = seed;
  const below = (limit: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(((state >>> 8) / 2 ** 24) * limit);
  };
  return { below, pick: items => items[below(items.length)]! };
}

/** A value from x and y. Throws where their shapes do not allow it. */
type Step = (x: Tensor, y: Tensor, random: Random) => Tensor;

/** x if it has so many axes: kernels that only record check less than kernels that compute. */
function withAxes(x: Tensor, count: number): Tensor {
  if (x.rank < count) throw new RangeError(`${x.rank} axes`);
  return x;
}

const product = (a: Tensor, b: Tensor, transposeB = false): Tensor =>
  tf.matMul(withAxes(a, 2) as never, withAxes(b, 2) as never, false, transposeB);

const swapped = (x: Tensor): Tensor =>
  x.transpose([...withAxes(x, 2).shape.keys()].toSpliced(-2, 2, x.rank - 1, x.rank - 2));

/** A condition that has no gradient to be asked for. */
const everyOther = ({ shape, size }: Tensor): Tensor =>
  tf.tensor(
    Uint8Array.from({ length: size }, (_, i) => i % 2),
    shape,
    'bool',
  );

const axisOf = (x: Tensor, random: Random): number => random.below(withAxes(x, 1).rank);

const filled = (x: Tensor, columns: number, value: number): Tensor =>
  tf.fill([...x.shape.slice(0, -2), x.shape.at(-1)!, columns], value);

const STEPS: readonly Step[] = [
  (x, y) => x.add(y),
  (x, y) => x.sub(y),
  (x, y) => x.mul(y),
  x => x.maximum(x.neg()),
  (x, _, random) => x.mul(random.pick([1, 0, -1, 0.5])),
  (x, _, random) => x.add(random.pick([0, 1, -2])),
  (x, _, random) => x.div(random.pick([1, 4, -0.5, 3])),
  x => x.neg(),
  x => x.tanh(),
  x => x.clipByValue(-3, 3).square(),
  x => x.relu(),
  x => tf.where(everyOther(x), x, tf.zerosLike(x)),
  (x, _, random) => x.sum(axisOf(x, random), random.below(2) === 1),
  (x, _, random) => x.mean(axisOf(x, random), random.below(2) === 1),
  (x, _, random) => x.max(axisOf(x, random)),
  x => x.sum(),
  (x, _, random) => x.reshape(random.pick([[-1], [1, -1], [-1, 1], [2, -1], [-1, 3], [1, 3, -1]])),
  x => swapped(x),
  x => x.expandDims(0).transpose([...x.shape.keys(), x.rank]),
  (x, _, random) => tf.broadcastTo(x, [random.pick([1, 2]), ...x.shape]),
  (x, _, random) => withAxes(x, 1).tile(x.shape.map(() => random.pick([1, 1, 2]))),
  (x, _, random) => x.pad(x.shape.map(() => [random.below(2), 0] as [number, number])),
  x => x.slice([1], [withAxes(x, 1).shape[0]! - 1]),
  (x, _, random) => tf.concat([x, x], axisOf(x, random)),
  (x, _, random) => product(x, filled(x, 3, random.pick([0.5, 1, 0]))),
  x => product(x, x, true),
  (x, _, random) => product(swapped(x.mul(random.pick([1, 2, 0.25]))), x),
  x => product(x, filled(x, 2, 0.5)).add(tf.tensor1d([1, 2])),
  (x, _, random) => rmsNorm(withAxes(x, 1), tf.fill([x.shape.at(-1)!], random.pick([1, 2])), 1e-3),
];

const FEWEST_STEPS = 4;
const FURTHER_STEPS = 10;

/** The last three values of a chain of steps, each on values before it. */
function randomValues(seed: number, given: readonly Tensor[]): Tensor[] {
  const random = randomOf(seed);
  const values = [...given];
  for (let left = FEWEST_STEPS + random.below(FURTHER_STEPS); left > 0; left--) {
    const [x, y, step] = [random.pick(values), random.pick(values), random.pick(STEPS)];
    try {
      const made = step(x, y, random);
      if (made.size > 0 && made.size <= MOST_NUMBERS && made.rank <= 4) values.push(made);
    } catch {
      // A step that these shapes do not allow is left out, alike in every engine.
    }
  }
  return values.slice(-3);
}

/** Of the sum of the values and the inputs, for every input. */
function gradients(seed: number, given: readonly Tensor[]): Tensor[] {
  const total = (...inputs: Tensor[]) =>
    [...randomValues(seed, inputs), ...inputs]
      .map(value => value.mul(0.3).sum())
      .reduce((sum, value) => sum.add(value));
  return tf.grads(total as never)([...given]);
}

const cpu = await openCpuEngine();
const engines = await enginesUnderTest();

describe.each([
  ['values', randomValues],
  ['gradients', gradients],
])('%s', (kind, body) => {
  test.each(engines.map(engine => [`${engine.name} on ${engine.device}`, engine] as const))(
    '%s',
    async (_, engine) => {
      for (let seed = 1; seed <= PROGRAMS; seed++) {
        const { program, inputs } = programOf(`${kind} ${seed}`, GIVEN, (...given) => body(seed, given));
        expectAlike(await runOn(engine, program, inputs), await runOn(cpu, program, inputs), 1e-3);
      }
    },
  );
});
