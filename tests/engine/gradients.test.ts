// Gradients of the compound ops against finite differences of their outputs, and attention against its definition.
import type { Tensor } from '@tensorflow/tfjs';
import { describe, expect, test } from 'vitest';
import { openCpuEngine } from '../../src/engine/cpu.ts';
import * as ops from '../../src/engine/ops.ts';
import type { HostArrays } from '../../src/engine/program.ts';
import { softcap } from '../../src/engine/softcap.ts';
import { tf } from '../../src/engine/tf.ts';
import { enginesUnderTest } from './engines.ts';
import { expectAlike, f32, type Given, i32, numbers, programOf, runOn } from './programs.ts';

interface Case {
  readonly given: readonly Given[];
  /** How many of the inputs, from the first, have a gradient. */
  readonly of: number;
  run(...inputs: Tensor[]): Tensor;
}

const mask = (length: number): Given => ({
  shape: [1, length, length],
  data: Float32Array.from({ length: length * length }, (_, i) =>
    i % length > Math.floor(i / length) ? -1e9 : 0,
  ),
});

/** Each of four rows is in two of three groups. */
const twoOfThree = () =>
  ops.groupRows(
    tf.oneHot(
      [
        [0, 2],
        [2, 1],
        [0, 2],
        [2, 0],
      ],
      3,
      1,
      0,
      'float32',
    ),
  );

/** Every row of x [4, 3] goes through two of three matrices [5, 3]. */
function mixed(x: Tensor, ...weights: Tensor[]): Tensor {
  const groups = twoOfThree();
  return ops.layApart(ops.groupProduct(ops.layTogether(x, groups), groups.sizes, weights), groups);
}

const CASES: Record<string, Case> = {
  groups: { given: [f32([4, 3]), f32([5, 3], 2), f32([5, 3], 3), f32([5, 3], 4)], of: 4, run: mixed },
  rmsNorm: { given: [f32([3, 6]), f32([6], 2)], of: 2, run: (x, w) => ops.rmsNorm(x, w, 1e-5) },
  layerNorm: {
    given: [f32([3, 6]), f32([6], 2), f32([6], 3)],
    of: 3,
    run: (x, w, b) => ops.layerNorm(x, w, b, 1e-5),
  },
  gelu: { given: [f32([12], 1, 3)], of: 1, run: ops.gelu },
  geluExact: { given: [f32([12], 1, 3)], of: 1, run: ops.geluExact },
  silu: { given: [f32([12], 1, 3)], of: 1, run: ops.silu },
  rotary: {
    given: [f32([1, 2, 3, 4]), f32([1, 3, 2], 2), f32([1, 3, 2], 3)],
    of: 1,
    run: ops.rotary,
  },
  attention: {
    given: [f32([1, 2, 3, 4]), f32([1, 2, 3, 4], 2), f32([1, 2, 3, 4], 3), mask(3)],
    of: 3,
    run: (q, k, v, m) => ops.softmaxAttention(q, k, v, m, 0.7),
  },
  'grouped attention': {
    given: [f32([2, 4, 3, 2]), f32([2, 2, 3, 2], 2), f32([2, 2, 3, 2], 3), mask(3)],
    of: 3,
    run: (q, k, v, m) => ops.softmaxAttention(q, k, v, m, 0.7, { causal: true }),
  },
  'capped attention': {
    given: [f32([2, 4, 3, 2]), f32([2, 2, 3, 2], 2), f32([2, 2, 3, 2], 3), mask(3)],
    of: 3,
    run: (q, k, v, m) => ops.softmaxAttention(q, k, v, m, 1.7, { causal: true, softcap: 0.8 }),
  },
  'biased attention': {
    given: [
      f32([2, 4, 3, 2]),
      f32([2, 2, 5, 2], 2),
      f32([2, 2, 5, 2], 3),
      f32([1, 4, 3, 5], 4),
      f32([1, 3, 5], 5),
    ],
    of: 4,
    run: (q, k, v, bias, m) => ops.softmaxAttention(q, k, v, m, 0.7, { bias }),
  },
  lookUp: {
    given: [f32([4, 3]), i32([2, 3], [1, 0, 3, 1, 2, 0])],
    of: 1,
    run: (table, at) => ops.lookUp(table, at, -1),
  },
  'cross-entropy': {
    given: [f32([4, 3], 1, 2), f32([5, 3], 2, 2), i32([4], [4, -1, 0, 0])],
    of: 2,
    run: (h, w, t) => ops.crossEntropySums(h, w, t).lossSum,
  },
  'capped cross-entropy': {
    given: [f32([4, 3], 1, 2), f32([5, 3], 2, 2), i32([4], [4, -1, 0, 0])],
    of: 2,
    run: (h, w, t) => ops.crossEntropySums(h, w, t, 1.3).lossSum,
  },
  'losses of tokens': {
    given: [f32([4, 3], 1, 2), f32([5, 3], 2, 2), i32([4], [4, -1, 0, 0])],
    of: 2,
    run: (h, w, t) => ops.tokenLosses(h, { weight: w }, t),
  },
  'capped losses of tokens': {
    given: [f32([4, 3], 1, 2), f32([5, 3], 2, 2), i32([4], [4, -1, 0, 0])],
    of: 2,
    run: (h, w, t) => ops.tokenLosses(h, { weight: w, softcap: 1.3 }, t),
  },
  'biased losses of tokens': {
    given: [f32([4, 3], 1, 2), f32([5, 3], 2, 2), i32([4], [4, -1, 0, 0]), f32([5], 3, 2)],
    of: 2,
    run: (h, w, t, bias) => ops.tokenLosses(h, { weight: w, bias }, t),
  },
  'biased cross-entropy': {
    given: [f32([4, 3], 1, 2), f32([5, 3], 2, 2), i32([4], [4, -1, 0, 0]), f32([5], 3, 2)],
    of: 2,
    run: (h, w, t, bias) => ops.crossEntropySums(h, w, t, null, bias).lossSum,
  },
};

/** The sum of the outputs' elements, each with a weight of its own. */
function weightedSum(y: Tensor): Tensor {
  return y.mul(tf.tensor(numbers(y.size, 99), y.shape)).sum();
}

const STEP = 2e-2;

/** d output / d input[which][at] by central differences of fourth order. */
async function difference(
  run: (inputs: HostArrays) => Promise<HostArrays>,
  inputs: HostArrays,
  name: string,
  at: number,
) {
  const shifted = async (by: number) => {
    const array = Float32Array.from(inputs[name]!);
    array[at]! += by;
    return (await run({ ...inputs, [name]: array }))[0]![0]!;
  };
  const near = (await shifted(STEP)) - (await shifted(-STEP));
  const far = (await shifted(2 * STEP)) - (await shifted(-2 * STEP));
  return (8 * near - far) / (12 * STEP);
}

for (const engine of await enginesUnderTest())
  describe(`${engine.name} on ${engine.device}`, () => {
    test.each(Object.entries(CASES))('%s', async (_name, { given, of, run }) => {
      const value = programOf('value', given, ((...x: Tensor[]) => weightedSum(run(...x))) as never);
      const slope = programOf('slope', given, ((...x: Tensor[]) => {
        const constants = x.slice(of);
        return tf.grads(((...y: Tensor[]) => weightedSum(run(...y, ...constants))) as never)(x.slice(0, of));
      }) as never);
      const executable = await engine.compile(value.program);
      const slopes = await runOn(engine, slope.program, slope.inputs);
      for (let input = 0; input < of; input++)
        for (let at = 0; at < given[input]!.data.length; at++) {
          const expected = await difference(inputs => executable.run(inputs), value.inputs, `x${input}`, at);
          expect(slopes[input]![at], `input ${input} [${at}]`).toBeCloseTo(expected, 2.5);
        }
      await executable.close();
    });
  });

test('a still row has no gradient of being looked up', async () => {
  const given = [f32([4, 3]), i32([2, 3], [1, 0, 3, 1, 2, 0])];
  const slope = (still: number) =>
    programOf('slope', given, ((table: Tensor, at: Tensor) =>
      tf.grad(x => weightedSum(ops.lookUp(x, at, still)))(table)) as never);
  for (const engine of await enginesUnderTest()) {
    const all = (await runOn(engine, slope(-1).program, slope(-1).inputs))[0];
    const some = (await runOn(engine, slope(1).program, slope(1).inputs))[0];
    expect(Array.from(some!)).toEqual(Array.from(all!, (each, i) => (Math.floor(i / 3) === 1 ? 0 : each)));
    expect(all![3]).not.toBe(0);
  }
});

/** Attention as its definition reads: every head on its own, all keys at once. */
function plainAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  bias: Tensor,
  m: Tensor,
  cap: number | null = null,
): Tensor {
  const group = q.shape[1]! / k.shape[1]!;
  const heads = Array.from({ length: q.shape[1]! }, (_, head) => {
    const of = (x: Tensor, index: number) => x.slice([0, index], [-1, 1]).squeeze([1]);
    const kv = Math.floor(head / group);
    const scores: Tensor = tf.matMul(of(q, head) as never, of(k, kv) as never, false, true);
    const masked = softcap(scores.mul(0.5), cap).add(of(bias, head)).add(m);
    return tf.matMul(tf.softmax(masked) as never, of(v, kv) as never) as Tensor;
  });
  return tf.stack(heads, 1);
}

test.each([
  ['causal', 300, 1],
  ['wide', 1030, 1],
  ['wide', 1030, 2],
])('%s blocks change nothing: %i tokens, %i rows', async (kind, length, rows) => {
  const causal = kind === 'causal';
  const given = [
    f32([rows, 4, length, 4]),
    f32([rows, 2, length, 4], 2),
    f32([rows, 2, length, 4], 3),
    f32([1, 4, length, length], 4),
    causal ? mask(length) : f32([1, length, length], 5),
  ];
  const both = (attend: (...x: Tensor[]) => Tensor) =>
    programOf('attention', given, ((...x: Tensor[]) => [
      attend(...x),
      ...tf.grads(((...y: Tensor[]) => weightedSum(attend(...y, x[4]!))) as never)(x.slice(0, 4)),
    ]) as never);
  const plain = both((q, k, v, bias, m) => plainAttention(q!, k!, v!, bias!, m!));
  const blocks = both((q, k, v, bias, m) =>
    ops.softmaxAttention(q!, k!, v!, m!, 0.5, { causal, bias: bias! }),
  );
  const engines = await enginesUnderTest();
  // Plain JavaScript takes a minute for the wide one.
  const reference = causal ? await openCpuEngine() : engines[0]!;
  const expected = await runOn(reference, plain.program, plain.inputs);
  for (const engine of engines)
    expectAlike(await runOn(engine, blocks.program, blocks.inputs), expected, 1e-5);
});

/** mask(length) of two rows: the second is packed, its first 500 tokens are an example of their own. */
function packedMask(length: number): Given {
  const { data } = mask(length);
  const packed = (i: number) => (i % length < 500 && i >= 500 * length ? -1e9 : data[i]!);
  return {
    shape: [2, length, length],
    data: Float32Array.from({ length: 2 * length ** 2 }, (_, i) =>
      i < length ** 2 ? data[i]! : packed(i - length ** 2),
    ),
  };
}

test.each([
  ['packed', null],
  ['capped', 0.8],
])('long rows without weights kept, several and %s: outputs and gradients', async (_, cap) => {
  const length = 1030;
  const given = [
    f32([2, 4, length, 4]),
    f32([2, 2, length, 4], 2),
    f32([2, 2, length, 4], 3),
    packedMask(length),
  ];
  const both = (attend: (...x: Tensor[]) => Tensor) =>
    programOf('attention', given, ((...x: Tensor[]) => [
      attend(...x),
      ...tf.grads(((...y: Tensor[]) => weightedSum(attend(...y, x[3]!))) as never)(x.slice(0, 3)),
    ]) as never);
  const plain = both((q, k, v, m) => plainAttention(q!, k!, v!, tf.zeros([1, 4, 1, 1]), m!, cap));
  const long = both((q, k, v, m) =>
    ops.softmaxAttention(q!, k!, v!, m!, 0.5, { causal: true, softcap: cap }),
  );
  const engines = await enginesUnderTest();
  const expected = await runOn(engines[0]!, plain.program, plain.inputs);
  for (const engine of engines) expectAlike(await runOn(engine, long.program, long.inputs), expected, 1e-5);
});

test('rows of a group lie together, and go back to where they were', async () => {
  const { program, inputs } = programOf('groups', [f32([4, 3], 1)], ((x: Tensor) => {
    const groups = twoOfThree();
    const laid = ops.layTogether(x, groups);
    return [groups.sizes, laid, ops.layApart(laid, groups)];
  }) as never);
  for (const engine of await enginesUnderTest()) {
    const { 0: sizes, 1: laid, 2: apart } = await runOn(engine, program, inputs);
    const row = (at: number) => [...inputs.x0!.slice(3 * at, 3 * at + 3)];
    expect([...sizes!]).toEqual([3, 1, 4]);
    expect([...laid!]).toEqual([0, 2, 3, 1, 0, 1, 2, 3].flatMap(row));
    expect([...apart!]).toEqual([0, 0, 1, 1, 2, 2, 3, 3].flatMap(row));
  }
});
