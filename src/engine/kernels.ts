// Every op that a traced program may contain: its inputs and the shapes and types of its outputs. How an op is computed is not here.
// Names and attributes are those of TensorFlow.js kernels (some of which trace.ts expands into others); the last block is Anneal's own.
import { sizeOf } from './arrays.ts';
import type { DType, TensorSpec } from './program.ts';
import { tf } from './tf.ts';

export type Attribute = number | boolean | string | readonly number[] | readonly (readonly number[])[];
export type Attributes = Readonly<Record<string, Attribute>>;

export interface Kernel {
  /** The names under which TensorFlow.js passes its inputs; 'list' where it passes any number of them. */
  readonly inputs: readonly string[] | 'list';
  /** One spec, or a list where TensorFlow.js expects a list. */
  infer(inputs: readonly TensorSpec[], attributes: Attributes): TensorSpec | TensorSpec[];
}

const { assertAndGetBroadcastShape: broadcast, prepareSplitSize } = tf.backend_util;
const { inferFromImplicitShape, parseAxisParam } = tf.util;

const spec = (shape: readonly number[], dtype: DType): TensorSpec => ({ shape: shape.slice(), dtype });
const mutable = (input: TensorSpec) => input.shape.slice();

/** Axes as TensorFlow.js takes them (a number, a list, nothing: all) -> sorted, not negative. */
export function axesOf(axis: Attribute | undefined, shape: readonly number[]): number[] {
  const axes = parseAxisParam((axis ?? null) as never, shape.slice());
  return axes.slice().sort((a, b) => a - b);
}

/** The axes of a reduction: Max calls them by another name. */
export const reducedAxes = (attributes: Attributes, shape: readonly number[]): number[] =>
  axesOf(attributes.axis ?? attributes.reductionIndices, shape);

function reducedShape({ shape }: TensorSpec, attributes: Attributes): number[] {
  const { keepDims } = attributes;
  const axes = reducedAxes(attributes, shape);
  if (keepDims) return shape.map((length, i) => (axes.includes(i) ? 1 : length));
  return shape.filter((_, i) => !axes.includes(i));
}

const unary = (dtype?: DType): Kernel => ({
  inputs: ['x'],
  infer: ([x]) => spec(x!.shape, dtype ?? x!.dtype),
});

const binary = (dtype?: DType): Kernel => ({
  inputs: ['a', 'b'],
  infer: ([a, b]) => spec(broadcast(mutable(a!), mutable(b!)), dtype ?? a!.dtype),
});

const reduction = (dtype?: DType): Kernel => ({
  inputs: ['x'],
  infer: ([x], attributes) => spec(reducedShape(x!, attributes), dtype ?? x!.dtype),
});

const index: Kernel = {
  inputs: ['x'],
  infer: ([x], { axis }) => spec(reducedShape(x!, { axis: axis! }), 'int32'),
};

function matMulShape([a, b]: readonly TensorSpec[], { transposeA, transposeB }: Attributes): number[] {
  const batch = broadcast(a!.shape.slice(0, -2), b!.shape.slice(0, -2));
  return [...batch, a!.shape.at(transposeA ? -1 : -2)!, b!.shape.at(transposeB ? -2 : -1)!];
}

function einsumShape(inputs: readonly TensorSpec[], equation: string): number[] {
  const [terms, result] = equation.replaceAll(' ', '').split('->') as [string, string];
  const lengths: Record<string, number> = {};
  terms.split(',').forEach((term, i) => {
    [...term].forEach((letter, axis) => {
      lengths[letter] = inputs[i]!.shape[axis]!;
    });
  });
  return [...result].map(letter => lengths[letter]!);
}

function splitSizes(x: TensorSpec, { numOrSizeSplits, axis }: Attributes): number[] {
  const [positive] = axesOf(axis, x.shape);
  return prepareSplitSize({ shape: x.shape } as never, numOrSizeSplits as number, positive!);
}

function gatherShape([x, indices]: readonly TensorSpec[], { axis, batchDims = 0 }: Attributes): number[] {
  const [at] = axesOf(axis, x!.shape);
  return [...x!.shape.slice(0, at), ...indices!.shape.slice(batchDims as number), ...x!.shape.slice(at! + 1)];
}

/** One number for each row. */
const rowsOf = ({ shape }: TensorSpec) => spec([...shape.slice(0, -1), 1], 'float32');

const withAxis = (shape: readonly number[], axis: number, length: number) =>
  shape.map((old, i) => (i === axis ? length : old));

export const KERNELS = {
  // One input, element by element.
  Abs: unary(),
  Neg: unary(),
  Sign: unary(),
  Square: unary(),
  Exp: unary('float32'),
  Expm1: unary('float32'),
  Log: unary('float32'),
  Log1p: unary('float32'),
  Sqrt: unary('float32'),
  Rsqrt: unary('float32'),
  Reciprocal: unary('float32'),
  Sigmoid: unary('float32'),
  Tanh: unary('float32'),
  Sinh: unary('float32'),
  Cosh: unary('float32'),
  Sin: unary('float32'),
  Cos: unary('float32'),
  Tan: unary('float32'),
  Asin: unary('float32'),
  Acos: unary('float32'),
  Atan: unary('float32'),
  Asinh: unary('float32'),
  Acosh: unary('float32'),
  Atanh: unary('float32'),
  Erf: unary('float32'),
  Floor: unary(),
  Ceil: unary(),
  Round: unary(),
  Relu: unary(),
  Relu6: unary(),
  Elu: unary('float32'),
  Selu: unary('float32'),
  Softplus: unary('float32'),
  LeakyRelu: unary(),
  Step: unary(),
  ClipByValue: unary(),
  IsNan: unary('bool'),
  IsInf: unary('bool'),
  IsFinite: unary('bool'),
  LogicalNot: unary('bool'),
  Cast: { inputs: ['x'], infer: ([x], { dtype }) => spec(x!.shape, dtype as DType) },
  // Two inputs, element by element.
  Add: binary(),
  Sub: binary(),
  Multiply: binary(),
  RealDiv: binary('float32'),
  FloorDiv: binary(),
  Mod: binary(),
  Pow: binary(),
  Maximum: binary(),
  Minimum: binary(),
  SquaredDifference: binary(),
  Equal: binary('bool'),
  NotEqual: binary('bool'),
  Greater: binary('bool'),
  GreaterEqual: binary('bool'),
  Less: binary('bool'),
  LessEqual: binary('bool'),
  LogicalAnd: binary('bool'),
  LogicalOr: binary('bool'),
  EluGrad: { inputs: ['dy', 'y'], infer: ([dy]) => spec(dy!.shape, dy!.dtype) },
  Prelu: { inputs: ['x', 'alpha'], infer: ([x]) => spec(x!.shape, x!.dtype) },
  // More inputs, element by element.
  Select: {
    inputs: ['condition', 't', 'e'],
    infer: ([c, t, e]) => spec(broadcast(broadcast(mutable(c!), mutable(t!)), mutable(e!)), t!.dtype),
  },
  // Reductions.
  Sum: reduction(),
  Mean: reduction('float32'),
  Max: reduction(),
  Min: reduction(),
  Prod: reduction(),
  All: reduction('bool'),
  Any: reduction('bool'),
  ArgMax: index,
  ArgMin: index,
  Cumsum: unary(),
  Softmax: { inputs: ['logits'], infer: ([x]) => spec(x!.shape, 'float32') },
  TopK: {
    inputs: ['x'],
    infer: ([x], { k }) => {
      const shape = [...x!.shape.slice(0, -1), k as number];
      return [spec(shape, x!.dtype), spec(shape, 'int32')];
    },
  },
  // Matrix products.
  BatchMatMul: {
    inputs: ['a', 'b'],
    infer: (inputs, attributes) => spec(matMulShape(inputs, attributes), 'float32'),
  },
  Einsum: {
    inputs: 'list',
    infer: (inputs, { equation }) => spec(einsumShape(inputs, equation as string), inputs[0]!.dtype),
  },
  // Shapes and places.
  Reshape: {
    inputs: ['x'],
    infer: ([x], { shape }) =>
      spec(inferFromImplicitShape((shape as number[]).slice(), sizeOf(x!.shape)), x!.dtype),
  },
  Transpose: {
    inputs: ['x'],
    infer: ([x], { perm }) =>
      spec(
        (perm as number[]).map(axis => x!.shape[axis]!),
        x!.dtype,
      ),
  },
  BroadcastTo: { inputs: ['x'], infer: ([x], { shape }) => spec(shape as number[], x!.dtype) },
  Tile: {
    inputs: ['x'],
    infer: ([x], { reps }) =>
      spec(
        x!.shape.map((length, i) => length * (reps as number[])[i]!),
        x!.dtype,
      ),
  },
  Concat: {
    inputs: 'list',
    infer: (inputs, { axis }) => {
      const [at] = axesOf(axis, inputs[0]!.shape);
      const length = inputs.reduce((sum, { shape }) => sum + shape[at!]!, 0);
      return spec(withAxis(inputs[0]!.shape, at!, length), inputs[0]!.dtype);
    },
  },
  SplitV: {
    inputs: ['x'],
    infer: ([x], attributes) => {
      const [at] = axesOf(attributes.axis, x!.shape);
      return splitSizes(x!, attributes).map(length => spec(withAxis(x!.shape, at!, length), x!.dtype));
    },
  },
  Slice: {
    inputs: ['x'],
    infer: ([x], { begin, size }) => {
      const [, lengths] = tf.slice_util.parseSliceParams(
        { shape: x!.shape, rank: x!.shape.length } as never,
        begin as number[],
        size as number[],
      );
      return spec(lengths as number[], x!.dtype);
    },
  },
  // begin, end and strides name every axis; end is -1 where a negative stride runs to the first element.
  StridedSlice: {
    inputs: ['x'],
    infer([x], { begin, end, strides }) {
      const [from, to, step] = [begin, end, strides] as number[][];
      return spec(
        x!.shape.map((_, i) => Math.max(0, Math.ceil((to![i]! - from![i]!) / step![i]!))),
        x!.dtype,
      );
    },
  },
  Reverse: unary(),
  PadV2: {
    inputs: ['x'],
    infer: ([x], { paddings }) =>
      spec(
        x!.shape.map(
          (length, i) => length + (paddings as number[][])[i]![0]! + (paddings as number[][])[i]![1]!,
        ),
        x!.dtype,
      ),
  },
  GatherV2: {
    inputs: ['x', 'indices'],
    infer: (inputs, a) => spec(gatherShape(inputs, a), inputs[0]!.dtype),
  },
  GatherNd: {
    inputs: ['params', 'indices'],
    infer: ([params, indices]) =>
      spec([...indices!.shape.slice(0, -1), ...params!.shape.slice(indices!.shape.at(-1)!)], params!.dtype),
  },
  ScatterNd: {
    inputs: ['indices', 'updates'],
    infer: ([, updates], { shape }) => spec(shape as number[], updates!.dtype),
  },
  TensorScatterUpdate: {
    inputs: ['tensor', 'indices', 'updates'],
    infer: ([tensor]) => spec(tensor!.shape, tensor!.dtype),
  },
  UnsortedSegmentSum: {
    inputs: ['x', 'segmentIds'],
    infer: ([x, ids], { numSegments }) =>
      spec([numSegments as number, ...x!.shape.slice(ids!.shape.length)], x!.dtype),
  },
  OneHot: {
    inputs: ['indices'],
    infer: ([indices], { depth, dtype }) =>
      spec([...indices!.shape, depth as number], (dtype ?? 'int32') as DType),
  },
  // Made by passes only: a b + c, for two axes.
  Gemm: {
    inputs: ['a', 'b', 'c'],
    infer: (inputs, attributes) => spec(matMulShape(inputs, attributes), 'float32'),
  },
  // Made by a pass only: x, but not before `after` is there.
  After: { inputs: ['x', 'after'], infer: ([x]) => spec(x!.shape, x!.dtype) },
  // Anneal's own; ops.ts says what they compute.
  LayerNorm: {
    inputs: ['x', 'weight', 'bias'],
    infer: ([x]) => [spec(x!.shape, 'float32'), rowsOf(x!), rowsOf(x!)],
  },
  LayerNormGrad: {
    inputs: ['dy', 'x', 'weight', 'mean', 'scale'],
    infer: ([dy]) => spec(dy!.shape, 'float32'),
  },
  RmsNorm: { inputs: ['x', 'weight'], infer: ([x]) => [spec(x!.shape, 'float32'), rowsOf(x!)] },
  RmsNormGrad: { inputs: ['dy', 'x', 'weight', 'scale'], infer: ([dy]) => spec(dy!.shape, 'float32') },
  Gelu: unary('float32'),
  GeluGrad: { inputs: ['dy', 'x'], infer: ([dy]) => spec(dy!.shape, 'float32') },
  Silu: unary('float32'),
  SiluGrad: { inputs: ['dy', 'x'], infer: ([dy]) => spec(dy!.shape, 'float32') },
  Rotary: { inputs: ['x', 'cos', 'sin'], infer: ([x]) => spec(x!.shape, 'float32') },
  // x, sizes, then a matrix for each group; and dy, x, sizes: the gradients of all matrices.
  GroupProduct: {
    inputs: 'list',
    infer: ([x, , weight], { transposeB }) =>
      spec([x!.shape[0]!, weight!.shape[transposeB ? 0 : 1]!], 'float32'),
  },
  GroupProductGrad: {
    inputs: 'list',
    infer: ([dy, x], { groups }) =>
      Array.from({ length: groups as number }, () => spec([dy!.shape[1]!, x!.shape[1]!], 'float32')),
  },
  // query, key, value, a bias if `biased`, then a mask for each block of queries; attention-blocks.ts says which blocks.
  Attention: { inputs: 'list', infer: ([query]) => spec(query!.shape, 'float32') },
  // dy, the output, then the same: the gradients of query, key and value, or of the bias, as `of` says.
  AttentionGrad: {
    inputs: 'list',
    infer: ([, , query, key, value, bias], { of }) =>
      (of === 'bias' ? [bias!] : [query!, key!, value!]).map(({ shape }) => spec(shape, 'float32')),
  },
  // lossSum, correct, count, then the gradients of lossSum that `gradients` names: none, hidden, weight or both. A bias is optional.
  CrossEntropy: {
    inputs: ['hidden', 'weight', 'targets', 'bias'],
    infer: ([hidden, weight], { gradients }) => [
      spec([], 'float32'),
      spec([], 'int32'),
      spec([], 'int32'),
      ...(gradients === 'hidden' || gradients === 'both' ? [spec(hidden!.shape, 'float32')] : []),
      ...(gradients === 'weight' || gradients === 'both' ? [spec(weight!.shape, 'float32')] : []),
    ],
  },
  // A loss for every row, 0 without a target; and what a gradient of them all does to hidden or weight, as `of` says. A bias is optional.
  TokenLosses: {
    inputs: ['hidden', 'weight', 'targets', 'bias'],
    infer: ([, , targets]) => spec(targets!.shape, 'float32'),
  },
  TokenLossesGrad: {
    inputs: ['hidden', 'weight', 'targets', 'dy', 'bias'],
    infer: ([hidden, weight], { of }) => spec((of === 'hidden' ? hidden! : weight!).shape, 'float32'),
  },
} satisfies Record<string, Kernel>;

export type OpName = keyof typeof KERNELS;
