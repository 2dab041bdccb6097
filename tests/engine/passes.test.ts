// Each pass of the `onnx` engine on its own: what it takes out of a graph, and that the graph computes the same without it.
import type { Tensor, Tensor1D } from '@tensorflow/tfjs';
import { describe, expect, test } from 'vitest';
import type { Graph, Pass } from '../../src/engine/graph.ts';
import type { OpName } from '../../src/engine/kernels.ts';
import { onnxEngine } from '../../src/engine/onnx.ts';
import * as ops from '../../src/engine/ops.ts';
import { removeBroadcasts } from '../../src/engine/passes/broadcasts.ts';
import { foldConstants } from '../../src/engine/passes/constants.ts';
import { removeDead } from '../../src/engine/passes/dead.ts';
import { removeIdentities } from '../../src/engine/passes/identities.ts';
import { joinLosses } from '../../src/engine/passes/losses.ts';
import { mergeEqual } from '../../src/engine/passes/merge.ts';
import { foldFactors, foldIntoProducts, makeGemms } from '../../src/engine/passes/products.ts';
import { moveReshapes } from '../../src/engine/passes/reshapes.ts';
import { PASSES } from '../../src/engine/passes.ts';
import { tf } from '../../src/engine/tf.ts';
import { trace } from '../../src/engine/trace.ts';
import { expectAlike, f32, type Given, i32, programOf, runOn } from './programs.ts';

type Body = (...inputs: never[]) => Tensor | Tensor[];

const engineWith = (passes: readonly Pass[]) =>
  onnxEngine({ provider: 'cpu', threads: 1, passes, profile: null });

const product = (a: Tensor, b: Tensor, transposeA = false, transposeB = false): Tensor =>
  tf.matMul(a as never, b as never, transposeA, transposeB);

function countOps(graph: Graph): Partial<Record<OpName, number>> {
  const counts: Partial<Record<OpName, number>> = {};
  for (const { op } of graph.nodes) counts[op] = (counts[op] ?? 0) + 1;
  return counts;
}

interface Case {
  readonly passes: readonly Pass[];
  readonly given: readonly Given[];
  readonly body: Body;
  /** Ops left after the passes, all of them. */
  readonly left: Partial<Record<OpName, number>>;
}

/** Two layers of a transformer with adapters, its loss and all its gradients. */
const MODEL_GIVEN = [
  i32([1, 6], [1, 4, 2, 0, 3, 5]),
  i32([6], [4, -1, 0, 3, 5, 1]),
  f32([7, 8], 1),
  f32([8], 2),
  f32([8], 3),
  f32([24, 8], 4),
  f32([2, 8], 5),
  f32([24, 2], 6),
];

function model(
  tokens: Tensor,
  targets: Tensor,
  table: Tensor,
  gain: Tensor,
  bias: Tensor,
  w: Tensor,
  a: Tensor,
  b: Tensor,
) {
  const loss = (table: Tensor, gain: Tensor, bias: Tensor, a: Tensor, b: Tensor) => {
    const mask = tf.linalg
      .bandPart(tf.ones([6, 6]), -1, 0)
      .sub(1)
      .mul(1e9)
      .reshape([1, 6, 6]);
    let x: Tensor = tf.gather(table, tokens as Tensor1D); // [1, 6, 8]
    for (let layer = 0; layer < 2; layer++) {
      const normed = ops.layerNorm(x, gain, bias, 1e-5).reshape([6, 8]);
      const adapted = product(product(normed, a, false, true).mul(2), b, false, true);
      const wide = product(normed, w, false, true).add(adapted).reshape([1, 6, 24]);
      const [q, k, v] = tf.split(wide, 3, -1).map(part => part.reshape([1, 6, 2, 4]).transpose([0, 2, 1, 3]));
      const attended = ops.softmaxAttention(q!, k!, v!, mask, 0.5, { causal: true });
      x = x.add(
        ops
          .gelu(attended.transpose([0, 2, 1, 3]).reshape([1, 6, 8]))
          .mul(gain)
          .div(4),
      );
    }
    return ops.crossEntropySums(x.reshape([6, 8]), table, targets).lossSum;
  };
  const { value, grads } = tf.valueAndGrads(loss as never)([table, gain, bias, a, b]);
  return [value, ...grads];
}

const CASES: Record<string, Case> = {
  'removeDead drops what no output needs': {
    passes: [removeDead],
    given: [f32([3])],
    body(x: Tensor) {
      x.exp().sin();
      return x.neg();
    },
    left: { Neg: 1 },
  },
  'removeIdentities joins reshapes and transposes': {
    passes: [removeIdentities, removeDead],
    given: [f32([2, 3, 4])],
    body: (x: Tensor) => [
      x.reshape([6, 4]).reshape([2, 12]).reshape([2, 3, 4]).exp(),
      x.transpose([1, 0, 2]).transpose([1, 0, 2]).sin(),
      x.transpose([2, 0, 1]).transpose([1, 2, 0]).cos(),
      x.transpose([1, 2, 0]).transpose([1, 0, 2]),
    ],
    left: { Exp: 1, Sin: 1, Cos: 1, Transpose: 1 },
  },
  'removeIdentities turns moves of axes of length 1 into reshapes': {
    passes: [removeIdentities, removeDead],
    given: [f32([1, 3, 1, 4])],
    body: (x: Tensor) => x.transpose([2, 1, 0, 3]),
    left: { Reshape: 1 },
  },
  'removeIdentities drops neutral elements and joins factors': {
    passes: [removeIdentities, removeIdentities, removeDead],
    given: [f32([2, 3])],
    body: (x: Tensor) => [
      x.mul(1).add(0).sub(0).div(1).exp(),
      tf.zerosLike(x).add(x).sin(),
      x.mul(3).mul(0.5).div(4),
      x.neg().neg().cos(),
      x.slice([0, 0], [2, 3]).toFloat().tile([1, 1]).tanh(),
    ],
    left: { Exp: 1, Sin: 1, Multiply: 1, Cos: 1, Tanh: 1 },
  },
  'removeIdentities keeps a neutral element that broadcasts': {
    passes: [removeIdentities, removeDead],
    given: [f32([3])],
    body: (x: Tensor) => x.mul(tf.ones([2, 3])),
    left: { Multiply: 1, BroadcastTo: 1 },
  },
  'removeBroadcasts leaves broadcasting to the ops': {
    passes: [removeBroadcasts, removeDead],
    given: [f32([1, 4]), f32([3, 4], 2)],
    body: (a: Tensor, b: Tensor) => [
      tf.broadcastTo(a, [3, 4]).add(b),
      tf.where(tf.broadcastTo(a, [3, 4]).greater(tf.zeros([3, 4])), b, tf.zerosLike(b)),
    ],
    left: { Add: 1, Greater: 1, Select: 1 },
  },
  'removeBroadcasts adds up equal numbers by a product': {
    passes: [removeBroadcasts, foldConstants, removeDead],
    given: [f32([2])],
    body: (x: Tensor) => x.add(tf.fill([3, 4], 2.5).sum(1).slice([0], [2])),
    left: { Add: 1 },
  },
  'removeBroadcasts keeps the rank of what it makes': {
    passes: [removeBroadcasts, removeDead],
    given: [f32([3, 3]), f32([3, 3], 2)],
    body: (a: Tensor, b: Tensor) =>
      tf
        .broadcastTo(a, [1, 3, 3])
        .add(tf.broadcastTo(b, [1, 3, 3]))
        .transpose([2, 1, 0]),
    left: { Add: 1, Reshape: 2, Transpose: 1 },
  },
  'foldConstants computes beforehand': {
    passes: [foldConstants, removeDead],
    given: [f32([4])],
    body: (x: Tensor) =>
      x.add(
        tf
          .range(0, 4, 1)
          .square()
          .cumsum()
          .sub(tf.tensor1d([1, 2, 3, 4]).exp()),
      ),
    left: { Add: 1 },
  },
  'foldConstants leaves alone what TensorFlow.js has no kernel for': {
    passes: [foldConstants, removeDead],
    given: [f32([2])],
    body(x: Tensor) {
      const weight = tf.tensor2d([1, 0, 0, 1, 1, 1], [3, 2]);
      const losses = ops.tokenLosses(
        tf.tensor2d([1, 2, 3, 4], [2, 2]),
        { weight },
        tf.tensor1d([1, 2], 'int32'),
      );
      return x.add(losses);
    },
    left: { TokenLosses: 1, Add: 1 },
  },
  'mergeEqual computes once, with equal constants': {
    passes: [mergeEqual],
    given: [f32([3])],
    body: (x: Tensor) =>
      x
        .mul(tf.tensor1d([1, 2, 3]))
        .exp()
        .add(x.mul(tf.tensor1d([1, 2, 3])).exp()),
    left: { Multiply: 1, Exp: 1, Add: 1 },
  },
  'mergeEqual tells attributes apart': {
    passes: [mergeEqual],
    given: [f32([3])],
    body: (x: Tensor) => [
      x.clipByValue(0, Number.POSITIVE_INFINITY),
      x.clipByValue(Number.NEGATIVE_INFINITY, 0),
      x.clipByValue(0, 1),
    ],
    left: { ClipByValue: 3 },
  },
  'foldIntoProducts takes transposes and factors in': {
    passes: [foldIntoProducts, foldIntoProducts, removeDead],
    given: [f32([2, 3, 4]), f32([2, 5, 3], 2)],
    body: (a: Tensor, b: Tensor) => product(a.transpose([0, 2, 1]), b.mul(0.5).transpose([0, 2, 1])),
    left: { BatchMatMul: 1 },
  },
  'foldFactors takes the factor of a product in': {
    passes: [foldFactors, removeDead],
    given: [f32([3, 4]), f32([4, 2], 2)],
    body: (a: Tensor, b: Tensor) => product(a, b).mul(3),
    left: { BatchMatMul: 1 },
  },
  'foldFactors keeps a product that something else reads': {
    passes: [foldFactors, removeDead],
    given: [f32([3, 4]), f32([4, 2], 2)],
    body(a: Tensor, b: Tensor) {
      const both = product(a, b);
      return [both.mul(3), both.exp()];
    },
    left: { BatchMatMul: 1, Multiply: 1, Exp: 1 },
  },
  'makeGemms adds within the product': {
    passes: [makeGemms, removeDead],
    given: [f32([3, 4]), f32([4, 2], 2), f32([2], 3), f32([3, 2], 4)],
    body: (a: Tensor, b: Tensor, bias: Tensor, c: Tensor) => [product(a, b).add(bias), c.add(product(a, b))],
    left: { Gemm: 2 },
  },
  'makeGemms leaves sums that are no matrix': {
    passes: [makeGemms, removeDead],
    given: [f32([1, 4]), f32([4, 2], 2), f32([3, 2], 4)],
    body: (a: Tensor, b: Tensor, c: Tensor) => product(a, b).add(c),
    left: { BatchMatMul: 1, Add: 1 },
  },
  'moveReshapes keeps rows flat': {
    passes: [moveReshapes, removeIdentities, removeDead],
    given: [f32([6, 4]), f32([4], 2), f32([2, 3, 4], 3)],
    body: (x: Tensor, w: Tensor, y: Tensor) =>
      tf
        .split(
          ops
            .layerNorm(x.reshape([2, 3, 4]), w, w, 1e-5)
            .mul(w)
            .add(y),
          2,
          -1,
        )[0]!
        .reshape([6, 2]),
    left: { LayerNorm: 1, Multiply: 1, Reshape: 1, Add: 1, SplitV: 1 },
  },
  'joinLosses makes one cross-entropy of loss and gradients': {
    passes: [removeDead, joinLosses, removeDead],
    given: [f32([4, 3]), f32([5, 3], 2), i32([4], [1, -1, 4, 0])],
    body(h: Tensor, w: Tensor, t: Tensor) {
      const loss = (h: Tensor, w: Tensor) => ops.crossEntropySums(h, w, t).lossSum;
      const { value, grads } = tf.valueAndGrads(loss as never)([h, w]);
      return [value, ...grads];
    },
    left: { CrossEntropy: 1, Multiply: 2 },
  },
  'joinLosses tells caps apart': {
    passes: [joinLosses, removeDead],
    given: [f32([4, 3], 1, 3), f32([5, 3], 2), i32([4], [1, -1, 4, 0])],
    body: (h: Tensor, w: Tensor, t: Tensor) =>
      [null, 0.5, 2].map(cap => ops.crossEntropySums(h, w, t, cap).lossSum),
    left: { CrossEntropy: 3 },
  },
};

describe.each(Object.entries(CASES))('%s', (name, { passes, given, body, left }) => {
  const { program, inputs } = programOf(name, given, body);
  test('ops left', () => {
    const graph = passes.reduce((graph, pass) => pass(graph), trace(program));
    expect(countOps(graph)).toEqual(left);
  });
  test('same numbers', async () => {
    expectAlike(
      await runOn(engineWith(passes), program, inputs),
      await runOn(engineWith([]), program, inputs),
    );
  });
});

describe('a model with its gradients', () => {
  const { program, inputs } = programOf('model', MODEL_GIVEN, model as never);
  const plain = runOn(engineWith([]), program, inputs);
  test.each([...new Set(PASSES)].map(pass => [pass.name, pass] as const))('%s alone', async (_name, pass) => {
    expectAlike(await runOn(engineWith([pass, removeDead]), program, inputs), await plain);
  });
  test('all passes in order', async () => {
    expectAlike(await runOn(engineWith(PASSES), program, inputs), await plain);
    const graph = PASSES.reduce((graph, pass) => pass(graph), trace(program));
    expect(graph.nodes.length).toBeLessThan((trace(program).nodes.length * 2) / 3);
  });
});
