// Every op of the kernel table: the `onnx` engine (no passes) and the `tensorflow` engine against TensorFlow.js in plain JavaScript.
import type { Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs';
import { expect, test } from 'vitest';
import { openCpuEngine } from '../../src/engine/cpu.ts';
import type { OpName } from '../../src/engine/kernels.ts';
import * as ops from '../../src/engine/ops.ts';
import { tf } from '../../src/engine/tf.ts';
import { trace } from '../../src/engine/trace.ts';
import { enginesUnderTest } from './engines.ts';
import { bool, expectAlike, f32, type Given, i32, programOf, runOn } from './programs.ts';

interface Case {
  readonly given: readonly Given[];
  run(...inputs: Tensor[]): Tensor | Tensor[];
  readonly tolerance?: number;
}

const unary = (run: (x: Tensor) => Tensor, given: Given = f32([3, 5])): Case[] => [{ given: [given], run }];
const positive: Given = { shape: [2, 3], data: Float32Array.of(0.1, 0.5, 1, 1.5, 2, 30) };
const special: Given = { shape: [4], data: Float32Array.of(1, Number.NaN, Number.POSITIVE_INFINITY, -2) };
const halves: Given = { shape: [6], data: Float32Array.of(-1.5, -0.5, 0.5, 1.5, 2.5, -2.2) };
const whole = i32([2, 3], [7, -7, 5, 0, -1, 9]);
const divisors = i32([2, 3], [3, 3, -2, 4, -5, 9]);

const binary = (run: (a: Tensor, b: Tensor) => Tensor): Case[] => [
  { given: [f32([2, 3]), f32([2, 3], 2)], run },
  { given: [f32([4, 1, 3]), f32([2, 1], 2)], run },
];
const withWhole = (run: (a: Tensor, b: Tensor) => Tensor): Case[] => [
  ...binary(run),
  { given: [whole, divisors], run },
];
const compare = (run: (a: Tensor, b: Tensor) => Tensor): Case[] => [
  ...withWhole(run),
  { given: [i32([3], [1, 2, 3]), i32([3], [2, 2, 2])], run },
];
const logical = (run: (a: Tensor, b: Tensor) => Tensor): Case[] => [
  { given: [bool([4], [0, 0, 1, 1]), bool([4], [0, 1, 0, 1])], run },
];
const reduce = (
  run: (x: Tensor, axis?: number | number[], keep?: boolean) => Tensor,
  given = f32([2, 3, 4]),
): Case[] => [
  { given: [given], run: x => run(x) },
  { given: [given], run: x => run(x, -1) },
  { given: [given], run: x => run(x, [0, 2], true) },
];

/** Long enough for attention to keep no weights. */
const LONG = 1024;
const longGiven = [
  f32([1, 1, LONG, 2]),
  f32([1, 1, LONG, 2], 2),
  f32([1, 1, LONG, 2], 3),
  {
    shape: [1, LONG, LONG],
    data: Float32Array.from({ length: LONG ** 2 }, (_, i) => (i % LONG > Math.floor(i / LONG) ? -1e9 : 0)),
  },
];

const normGiven = [f32([2, 3, 8]), f32([8], 2), f32([8], 3)];
/** Groups of so many rows: inputs are zeros when shapes are found out, and sizes must add up. */
const inGroups = (
  sizes: number[],
  run: (sizes: Tensor, x: Tensor, ...weights: Tensor[]) => Tensor | Tensor[],
): Case => ({
  given: [f32([5, 4]), ...[1, 2, 3].map(seed => f32([6, 4], seed))],
  run: (x, ...weights) => run(tf.tensor1d(sizes, 'int32'), x, ...weights),
});
const headGiven = (targets: number[]) => [f32([5, 4], 1, 3), f32([7, 4], 2, 3), i32([5], targets)];

/** Gradients of a sum of the output's elements, each with a weight of its own. */
function gradients(run: (...inputs: Tensor[]) => Tensor, inputs: Tensor[]): Tensor[] {
  const weighted = (...x: Tensor[]) => {
    const y = run(...x);
    return y.mul(tf.range(1, y.size + 1, 1).reshape(y.shape)).sum();
  };
  return tf.grads(weighted as never)(inputs);
}

/** The loss, and its gradients into hidden and weight. */
function headGradients(hidden: Tensor, weight: Tensor, targets: Tensor): Tensor[] {
  const loss = (h: Tensor, w: Tensor) => ops.crossEntropySums(h, w, targets).lossSum.mul(3) as never;
  const { value, grads } = tf.valueAndGrads(loss as never)([hidden, weight]);
  return [value, ...grads];
}

/** Of losses that are weighed by what the others lost, which also multiplies rounding errors. */
const tokenLossGradients = (hidden: Tensor, weight: Tensor, targets: Tensor, softcap: number | null) =>
  gradients(
    (h, w) => {
      const losses = ops.tokenLosses(h, { weight: w, softcap }, targets);
      return losses.mul(losses.sum());
    },
    [hidden, weight],
  );

const CASES = {
  Abs: [...unary(x => x.abs()), ...unary(x => x.abs(), whole)],
  Neg: [...unary(x => x.neg()), ...unary(x => x.neg(), whole)],
  Sign: unary(x => x.sign()),
  Square: [...unary(x => x.square()), ...unary(x => x.square(), whole)],
  Exp: unary(x => x.exp()),
  Expm1: unary(x => x.expm1()),
  Log: unary(x => x.log(), positive),
  Log1p: unary(x => x.log1p(), positive),
  Sqrt: unary(x => x.sqrt(), positive),
  Rsqrt: unary(x => x.rsqrt(), positive),
  Reciprocal: unary(x => x.reciprocal(), positive),
  Sigmoid: unary(x => x.sigmoid()),
  Tanh: unary(x => x.tanh()),
  Sinh: unary(x => x.sinh()),
  Cosh: unary(x => x.cosh()),
  Sin: unary(x => x.sin()),
  Cos: unary(x => x.cos()),
  Tan: unary(x => x.tan()),
  Asin: unary(x => x.asin()),
  Acos: unary(x => x.acos()),
  Atan: unary(x => x.atan()),
  Asinh: unary(x => x.asinh()),
  Acosh: unary(x => x.add(3).acosh()),
  Atanh: unary(x => x.atanh()),
  Erf: unary(x => x.erf()),
  Floor: unary(x => x.floor(), halves),
  Ceil: unary(x => x.ceil(), halves),
  Round: unary(x => x.round(), halves),
  Relu: unary(x => x.relu()),
  Relu6: unary(x => x.mul(10).relu6()),
  Elu: unary(x => x.elu()),
  Selu: unary(x => x.selu()),
  Softplus: unary(x => x.softplus()),
  LeakyRelu: unary(x => x.leakyRelu(0.3)),
  Step: [0, 0.5].flatMap(alpha => unary(x => x.step(alpha))),
  ClipByValue: [...unary(x => x.clipByValue(-0.25, 0.5)), ...unary(x => x.clipByValue(-2, 6), whole)],
  IsNan: unary(x => x.isNaN(), special),
  IsInf: unary(x => x.isInf(), special),
  IsFinite: unary(x => x.isFinite(), special),
  LogicalNot: unary(x => x.logicalNot(), bool([2], [0, 1])),
  Cast: [
    ...unary(x => x.mul(10).toInt()),
    ...unary(x => x.toFloat(), whole),
    ...unary(x => x.toBool(), whole),
    ...unary(x => x.toInt(), bool([2], [0, 1])),
  ],
  Add: [
    ...withWhole((a, b) => a.add(b)),
    { given: [f32([2]), f32([2], 2), f32([2], 3)], run: (...x) => tf.addN(x) },
  ],
  Sub: withWhole((a, b) => a.sub(b)),
  Multiply: withWhole((a, b) => a.mul(b)),
  RealDiv: binary((a, b) => a.div(b)),
  FloorDiv: [{ given: [whole, divisors], run: (a, b) => tf.floorDiv(a, b) }],
  Mod: withWhole((a, b) => a.mod(b)),
  Pow: [...binary((a, b) => a.abs().pow(b)), { given: [whole, i32([], [2])], run: (a, b) => a.pow(b) }],
  Maximum: withWhole((a, b) => a.maximum(b)),
  Minimum: withWhole((a, b) => a.minimum(b)),
  SquaredDifference: withWhole((a, b) => a.squaredDifference(b)),
  Equal: compare((a, b) => a.equal(b)),
  NotEqual: compare((a, b) => a.notEqual(b)),
  Greater: compare((a, b) => a.greater(b)),
  GreaterEqual: compare((a, b) => a.greaterEqual(b)),
  Less: compare((a, b) => a.less(b)),
  LessEqual: compare((a, b) => a.lessEqual(b)),
  LogicalAnd: logical((a, b) => a.logicalAnd(b)),
  LogicalOr: logical((a, b) => a.logicalOr(b)),
  EluGrad: [{ given: [f32([7])], run: x => tf.grad(y => tf.elu(y))(x) }],
  Prelu: [{ given: [f32([2, 3]), f32([3], 2)], run: (x, alpha) => x.prelu(alpha) }],
  Select: [
    { given: [bool([3, 1], [0, 1, 0]), f32([3, 4]), f32([4], 2)], run: (c, t, e) => tf.where(c, t, e) },
    { given: [bool([3], [0, 1, 1]), whole, divisors], run: (c, t, e) => tf.where(c, t, e) },
    {
      given: [bool([3], [0, 1, 1]), bool([3], [1, 0, 1]), bool([3], [1, 1, 0])],
      run: (c, t, e) => tf.where(c, t, e),
    },
  ],
  Sum: [
    ...reduce((x, axis, keep) => x.sum(axis, keep)),
    ...reduce((x, axis) => x.sum(axis), i32([1, 2, 2], [1, 2, 3, 4])),
  ],
  Mean: [
    ...reduce((x, axis, keep) => x.mean(axis, keep)),
    ...reduce((x, axis) => x.mean(axis), i32([1, 2, 2], [1, 2, 3, 5])),
  ],
  Max: reduce((x, axis, keep) => x.max(axis, keep)),
  Min: reduce((x, axis, keep) => x.min(axis, keep)),
  Prod: reduce((x, axis, keep) => x.prod(axis, keep)),
  All: reduce((x, axis, keep) => x.all(axis, keep), bool([1, 2, 3], [1, 0, 1, 1, 1, 1])),
  Any: reduce((x, axis, keep) => x.any(axis, keep), bool([1, 2, 3], [0, 0, 0, 0, 1, 0])),
  ArgMax: [...unary(x => x.argMax(-1)), ...unary(x => x.argMax(0), whole)],
  ArgMin: unary(x => x.argMin(-1)),
  Cumsum: [
    ...unary(x => x.cumsum(1)),
    ...unary(x => x.cumsum(0, true, true)),
    ...unary(x => x.cumsum(1, true), whole),
  ],
  Softmax: unary(x => x.softmax()),
  TopK: [
    {
      given: [f32([3, 7])],
      run(x) {
        const { values, indices } = tf.topk(x, 3);
        return [values, indices];
      },
    },
  ],
  BatchMatMul: [
    { given: [f32([3, 4]), f32([4, 5], 2)], run: (a, b) => tf.matMul(a, b) },
    { given: [f32([2, 4, 3]), f32([2, 5, 4], 2)], run: (a, b) => tf.matMul(a, b, true, true) },
    { given: [f32([2, 3, 4, 3]), f32([1, 3, 4, 5], 2)], run: (a, b) => tf.matMul(a, b, true) },
    {
      given: [f32([3, 4]), f32([4, 5], 2), f32([5], 3)],
      run: (a, b, bias) => tf.fused.matMul({ a, b, bias, activation: 'sigmoid' } as never),
    },
  ],
  Einsum: [{ given: [f32([2, 3, 4]), f32([2, 5, 4], 2)], run: (a, b) => tf.einsum('bij,bkj->bik', a, b) }],
  Reshape: [
    ...unary(x => x.reshape([5, -1])),
    ...unary(x => x.expandDims(1).squeeze()),
    { given: [f32([2, 3]), f32([2, 3], 2)], run: (a, b) => tf.stack([a, b], 1) },
  ],
  Transpose: unary(x => x.transpose([2, 0, 1]), f32([2, 3, 4])),
  BroadcastTo: [
    ...unary(x => tf.broadcastTo(x, [4, 3, 5])),
    ...unary(x => x.add(tf.fill(x.shape, 3))),
    ...unary(x => tf.zerosLike(x).sub(tf.onesLike(x))),
  ],
  Tile: unary(x => x.tile([2, 3])),
  Concat: [{ given: [f32([2, 3]), f32([2, 2], 2)], run: (a, b) => tf.concat([a, b], -1) }],
  SplitV: [
    { given: [f32([6, 3])], run: x => tf.split(x, [1, 2, 3]) },
    { given: [f32([4, 6])], run: x => tf.split(x, 3, 1) },
    { given: [f32([2, 3])], run: x => tf.unstack(x, 1) },
  ],
  Slice: [
    ...unary(x => x.slice([1, 2], [-1, 2])),
    ...unary(x => x.slice(0)),
    ...unary(x => x.slice([0, 1], [2, 1]), whole),
  ],
  StridedSlice: [
    ...unary(x => x.stridedSlice([0, 4], [3, 0], [2, -2])),
    ...unary(x => tf.stridedSlice(x, [2, 1], [0, 9], [-1, 3], 0, 1)),
    ...unary(x => tf.stridedSlice(x, [1], [2], [1], 0, 0, 0, 0, 1)),
  ],
  Reverse: unary(x => x.reverse(-1)),
  PadV2: [
    ...unary(x =>
      tf.pad(
        x,
        [
          [1, 0],
          [2, 3],
        ],
        0.5,
      ),
    ),
    ...unary(
      x =>
        tf.pad(
          x,
          [
            [0, 1],
            [1, 0],
          ],
          4,
        ),
      whole,
    ),
  ],
  GatherV2: [
    { given: [f32([5, 3]), i32([2, 2], [4, 0, 1, 1])], run: (x, i) => tf.gather(x, i as Tensor1D) },
    { given: [f32([2, 5, 3]), i32([2], [2, 0])], run: (x, i) => tf.gather(x, i as Tensor1D, -1) },
    { given: [f32([2, 5, 3]), i32([2, 2], [4, 0, 1, 1])], run: (x, i) => tf.gather(x, i as Tensor1D, 1, 1) },
  ],
  GatherNd: [{ given: [f32([3, 4, 2]), i32([2, 2], [2, 1, 0, 3])], run: (x, i) => tf.gatherND(x, i) }],
  ScatterNd: [
    { given: [i32([3, 1], [1, 3, 1]), f32([3, 4])], run: (i, u) => tf.scatterND(i, u, [5, 4]) },
    { given: [i32([2, 2], [1, 0, 0, 2]), f32([2, 3])], run: (i, u) => tf.scatterND(i, u, [2, 3, 3]) },
  ],
  TensorScatterUpdate: [
    {
      given: [f32([5, 2]), i32([2, 1], [3, 1]), f32([2, 2], 2)],
      run: (x, i, u) => tf.tensorScatterUpdate(x, i, u),
    },
  ],
  UnsortedSegmentSum: [
    {
      given: [f32([5, 3]), i32([5], [1, 0, 1, -1, 3])],
      run: (x, ids) => tf.unsortedSegmentSum(x, ids as Tensor1D, 4),
    },
    {
      given: [f32([6, 3]), i32([4], [5, 1, 1, 0])],
      run: (x, i) => tf.grad(x => tf.gather(x, i as Tensor1D))(x),
    },
  ],
  OneHot: [
    { given: [i32([4], [0, 3, -1, 9])], run: i => tf.oneHot(i, 5) },
    { given: [i32([2, 2], [0, 1, 2, 3])], run: i => tf.oneHot(i, 4, 2, -1, 'float32') },
  ],
  LayerNorm: [{ given: normGiven, run: (x, w, b) => ops.layerNorm(x, w, b, 1e-5) }],
  LayerNormGrad: [
    { given: normGiven, run: (...x) => gradients((x, w, b) => ops.layerNorm(x, w, b, 1e-5), x) },
    {
      given: [f32([5]), f32([5], 2), f32([5], 3)],
      run: (...x) => gradients((x, w, b) => ops.layerNorm(x, w, b, 1e-5), x),
    },
  ],
  RmsNorm: [{ given: normGiven.slice(0, 2), run: (x, w) => ops.rmsNorm(x, w, 1e-6) }],
  RmsNormGrad: [
    { given: normGiven.slice(0, 2), run: (...x) => gradients((x, w) => ops.rmsNorm(x, w, 1e-6), x) },
    { given: [f32([5]), f32([5], 2)], run: (...x) => gradients((x, w) => ops.rmsNorm(x, w, 1e-6), x) },
  ],
  Gelu: [ops.gelu, ops.geluExact].flatMap(gelu => unary(gelu, f32([4, 5], 1, 4))),
  GeluGrad: [ops.gelu, ops.geluExact].flatMap(gelu =>
    unary(x => gradients(gelu, [x])[0]!, f32([4, 5], 1, 4)),
  ),
  Silu: unary(ops.silu, f32([4, 5], 1, 4)),
  SiluGrad: unary(x => gradients(ops.silu, [x])[0]!, f32([4, 5], 1, 4)),
  Rotary: [
    {
      given: [f32([2, 3, 4, 8]), f32([2, 4, 4], 2), f32([2, 4, 4], 3)],
      run: (x, cos, sin) => [ops.rotary(x, cos, sin), gradients(x => ops.rotary(x, cos, sin), [x])[0]!],
    },
  ],
  Attention: [
    { given: longGiven, run: (q, k, v, m) => ops.softmaxAttention(q, k, v, m, 0.5, { causal: true }) },
  ],
  AttentionGrad: [
    {
      given: longGiven,
      run: (q, k, v, m) => gradients(q => ops.softmaxAttention(q, k, v, m, 0.5, { causal: true }), [q]),
      tolerance: 1e-4,
    },
  ],
  GroupProduct: [
    [2, 0, 3],
    [0, 0, 5],
  ].map(sizes => inGroups(sizes, (sizes, x, ...weights) => ops.groupProduct(x, sizes, weights))),
  GroupProductGrad: [
    [2, 0, 3],
    [0, 5, 0],
  ].map(sizes =>
    inGroups(sizes, (sizes, ...inputs) =>
      gradients((x, ...weights) => ops.groupProduct(x, sizes, weights), inputs),
    ),
  ),
  CrossEntropy: [
    { given: headGiven([3, -1, 0, 6, -1]), run: (h, w, t) => Object.values(ops.crossEntropySums(h, w, t)) },
    { given: headGiven([3, -1, 0, 6, -1]), run: (h, w, t) => headGradients(h, w, t) },
    { given: headGiven([-1, -1, -1, -1, -1]), run: (h, w, t) => headGradients(h, w, t) },
    { given: headGiven([1, 1, 1, 1, 1]), run: (h, w, t) => headGradients(h, w, t) },
  ],
  TokenLosses: [
    { given: headGiven([3, -1, 0, 6, -1]), run: (h, w, t) => ops.tokenLosses(h, { weight: w }, t) },
    { given: headGiven([-1, -1, -1, -1, -1]), run: (h, w, t) => ops.tokenLosses(h, { weight: w }, t) },
  ],
  TokenLossesGrad: [
    {
      given: headGiven([3, -1, 0, 6, -1]),
      run: (h, w, t) => tokenLossGradients(h, w, t, null),
      tolerance: 1e-4,
    },
    {
      given: headGiven([1, 1, 1, 1, 1]),
      run: (h, w, t) => tokenLossGradients(h, w, t, 1.3),
      tolerance: 1e-4,
    },
    {
      given: headGiven([-1, -1, -1, -1, -1]),
      run: (h, w, t) => tokenLossGradients(h, w, t, null),
      tolerance: 1e-4,
    },
  ],
  // Gemm and After are made by passes and tested there.
} satisfies Record<Exclude<OpName, 'Gemm' | 'After'>, Case[]>;

const cpu = await openCpuEngine();
const cases = Object.entries(CASES).flatMap(([op, list]) =>
  (list as Case[]).map((each, i) => ({ op, title: `${op} ${i}`, ...each })),
);

for (const engine of await enginesUnderTest({ passes: false }))
  test.each(cases)(`${engine.name} on ${engine.device}: $title`, async ({ op, given, run, tolerance }) => {
    const { program, inputs } = programOf(op, given, run as never);
    expectAlike(await runOn(engine, program, inputs), await runOn(cpu, program, inputs), tolerance);
  });

test.each(cases)('the case $title records its op', ({ op, given, run }) => {
  const graph = trace(programOf(op, given, run as never).program);
  expect(graph.nodes.map(node => node.op)).toContain(op);
});

test('an op without a kernel is refused by name', () => {
  const { program } = programOf('conv', [f32([1, 4, 4, 1]), f32([2, 2, 1, 1])], (x: Tensor, w: Tensor) =>
    tf.conv2d(x as never, w as never, 1, 'same'),
  );
  expect(() => trace(program)).toThrow('Conv2D');
});

test('a program that reads a tensor is refused', () => {
  const { program } = programOf('reads', [f32([1])], (x: Tensor2D) => tf.scalar(x.dataSync()[0]!));
  expect(() => trace(program)).toThrow('cannot read its tensors');
});
