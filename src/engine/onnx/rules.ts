// The lowering rules: one row per op. lower.ts makes the graph around the nodes.
import { sizeOf } from '../arrays.ts';
import type { Node } from '../graph.ts';
import { type Attributes, axesOf, type OpName, reducedAxes } from '../kernels.ts';
import type { DType } from '../program.ts';
import { attention } from './attention.ts';
import { COMPOUND_RULES } from './compound-rules.ts';
import { crossEntropy } from './cross-entropy.ts';
import type { EmitOptions, Lowering } from './lowering.ts';
import { multiply, multiplyAdd, type Product } from './products.ts';
import { addRows } from './row-sums.ts';
import { tokenLosses, tokenLossesGrad } from './token-losses.ts';

/** `x` names the node's inputs, `y` its outputs. */
export type Rule = (to: Lowering, node: Node, x: readonly string[], y: readonly string[]) => unknown;

const int = (value: number | boolean) => ({ int: Number(value) });
const float = (value: number) => ({ float: value });

/** One ONNX op with the same inputs. */
const same =
  (op: string, options: Omit<EmitOptions, 'outputs'> = {}): Rule =>
  (to, _node, x, y) => {
    to.emit(op, x, { ...options, outputs: y });
  };

/** A chain of ONNX ops of one input. */
const chain =
  (...ops: string[]): Rule =>
  (to, _node, [x], y) => {
    ops.reduce((input, op, i) => to.emit(op, [input], i === ops.length - 1 ? { outputs: y } : {}), x!);
  };

const dtypeOf = (node: Node): DType => node.inputs[0]!.dtype;

const reduction =
  (op: string): Rule =>
  (to, node, [x], y) => {
    const axes = reducedAxes(node.attributes, node.inputs[0]!.shape);
    const attributes = { keepdims: int(Boolean(node.attributes.keepDims)), noop_with_empty_axes: int(1) };
    to.emit(op, [x!, to.int64(axes)], { attributes, outputs: y });
  };

/** ReduceMean would keep the integer type. */
const mean: Rule = (to, node, [x], y) =>
  reduction('ReduceMean')(to, node, [dtypeOf(node) === 'float32' ? x! : to.cast(x!, 'float32')], y);

/** All and Any, as minimum and maximum of 0 and 1. */
const logicalReduction =
  (op: string): Rule =>
  (to, node, [x], y) => {
    const reduced = to.fresh('reduced');
    reduction(op)(to, node, [to.cast(x!, 'int32')], [reduced]);
    to.cast(reduced, 'bool', y);
  };

const index =
  (op: string): Rule =>
  (to, { inputs, attributes }, [x], y) => {
    const [axis] = axesOf(attributes.axis, inputs[0]!.shape);
    to.cast(to.emit(op, [x!], { attributes: { axis: int(axis!), keepdims: int(0) } }), 'int32', y);
  };

const lastAxisOf = (node: Node, axis: Attributes[string] | undefined) =>
  axesOf(axis ?? -1, node.inputs[0]!.shape)[0]!;

const softmax: Rule = (to, node, x, y) => {
  to.emit('Softmax', x, { attributes: { axis: int(lastAxisOf(node, node.attributes.dim)) }, outputs: y });
};

const productOf = ({ inputs: [a, b], outputs, attributes }: Node): Product => ({
  ...(attributes as Omit<Product, 'ranks' | 'size'>),
  ranks: [a!.shape.length, b!.shape.length],
  size: outputs[0]!.shape.slice(-2) as [number, number],
});

const batchMatMul: Rule = (to, node, [a, b], y) => multiply(to, [a!, b!], productOf(node), y);

const gemm: Rule = (to, node, [a, b, term], y) => multiplyAdd(to, [a!, b!], term!, productOf(node), y);

/** Integer division in ONNX truncates; TensorFlow.js floors. */
const floorDiv: Rule = (to, node, [a, b], y) => {
  if (dtypeOf(node) === 'int32')
    to.emit('Div', [to.emit('Sub', [a!, to.emit('Mod', [a!, b!])]), b!], { outputs: y });
  else to.emit('Floor', [to.emit('Div', [a!, b!])], { outputs: y });
};

const mod: Rule = (to, node, [a, b], y) => {
  if (dtypeOf(node) === 'int32') to.emit('Mod', [a!, b!], { outputs: y });
  else {
    const quotient = to.emit('Floor', [to.emit('Div', [a!, b!])]);
    to.emit('Sub', [a!, to.emit('Mul', [quotient, b!])], { outputs: y });
  }
};

/** ONNX's Where has no bool values. */
const select: Rule = (to, { outputs }, [condition, t, e], y) => {
  if (outputs[0]!.dtype !== 'bool') to.emit('Where', [condition!, t!, e!], { outputs: y });
  else {
    const otherwise = to.emit('And', [to.emit('Not', [condition!]), e!]);
    to.emit('Or', [to.emit('And', [condition!, t!]), otherwise], { outputs: y });
  }
};

/**
 * A copy of x that depends on `after`, in a way ONNX Runtime cannot optimize away: x is element 0 of a list of one,
 * where the index 0 is the ArgMax of a single element of `after`. It can neither be computed before `after` nor be
 * merged with x.
 */
const after: Rule = (to, { inputs }, [x, after], y) => {
  const numbers = to.emit('Reshape', [after!, to.int64([-1])]);
  const one = to.cast(to.emit('Gather', [numbers, to.int64([0])]), 'float32');
  const zero = to.emit('ArgMax', [one], { attributes: { axis: int(0), keepdims: int(0) } });
  const list = to.emit('Reshape', [x!, to.int64([1, ...inputs[0]!.shape])]);
  to.emit('Gather', [list, zero], { attributes: { axis: int(0) }, outputs: y });
};

const clip: Rule = (to, node, [x], y) => {
  const { clipValueMin, clipValueMax } = node.attributes;
  const bounds = [clipValueMin, clipValueMax].map(bound => to.scalar(dtypeOf(node), bound as number));
  to.emit('Clip', [x!, ...bounds], { outputs: y });
};

/** 1 above zero, alpha elsewhere. With alpha 0 the comparison is the result already; casting it costs a fraction of a `Where`. */
const step: Rule = (to, node, [x], y) => {
  const dtype = dtypeOf(node);
  const alpha = Number(node.attributes.alpha ?? 0);
  const positive = to.emit('Greater', [x!, to.scalar(dtype, 0)]);
  if (alpha === 0) to.cast(positive, dtype, y);
  else to.emit('Where', [positive, to.scalar(dtype, 1), to.scalar(dtype, alpha)], { outputs: y });
};

/** y > 0 ? dy : dy * (y + 1) */
const eluGrad: Rule = (to, _node, [dy, out], y) => {
  const slope = to.emit('Mul', [dy!, to.emit('Add', [out!, to.scalar('float32', 1)])]);
  to.emit('Where', [to.emit('Greater', [out!, to.scalar('float32', 0)]), dy!, slope], { outputs: y });
};

const cumsum: Rule = (to, node, [x], y) => {
  const { axis, exclusive = false, reverse = false } = node.attributes;
  to.emit('CumSum', [x!, to.scalar('int64', lastAxisOf(node, axis))], {
    attributes: { exclusive: int(exclusive as boolean), reverse: int(reverse as boolean) },
    outputs: y,
  });
};

const topK: Rule = (to, { attributes }, [x], y) => {
  const indices = to.fresh('indices');
  to.emit('TopK', [x!, to.int64([attributes.k as number])], { outputs: [y[0]!, indices] });
  to.cast(indices, 'int32', [y[1]!]);
};

const reshape: Rule = (to, { outputs }, [x], y) => {
  to.emit('Reshape', [x!, to.int64(outputs[0]!.shape)], { attributes: { allowzero: int(1) }, outputs: y });
};

const split: Rule = (to, node, [x], y) => {
  const axis = lastAxisOf(node, node.attributes.axis);
  const sizes = to.int64(node.outputs.map(({ shape }) => shape[axis]!));
  to.emit('Split', [x!, sizes], { attributes: { axis: int(axis) }, outputs: y });
};

const slice: Rule = (to, { inputs, outputs, attributes }, [x], y) => {
  const begin = attributes.begin as number[];
  const axes = inputs[0]!.shape.map((_, i) => i).filter(i => outputs[0]!.shape[i] !== inputs[0]!.shape[i]);
  if (axes.length === 0) {
    to.emit('Identity', [x!], { outputs: y });
    return;
  }
  const starts = axes.map(i => begin[i]!);
  const ends = axes.map(i => begin[i]! + outputs[0]!.shape[i]!);
  to.emit('Slice', [x!, to.int64(starts), to.int64(ends), to.int64(axes)], { outputs: y });
};

const BEFORE_FIRST = -(2 ** 31);

const stridedSlice: Rule = (to, { attributes }, [x], y) => {
  const { begin, end, strides } = attributes as Record<string, number[]>;
  const ends = end!.map((at, i) => (at < 0 && strides![i]! < 0 ? BEFORE_FIRST : at));
  const axes = begin!.map((_, i) => i);
  to.emit('Slice', [x!, ...[begin!, ends, axes, strides!].map(numbers => to.int64(numbers))], { outputs: y });
};

const reverse: Rule = (to, { inputs, attributes }, [x], y) => {
  const axes = axesOf(attributes.dims, inputs[0]!.shape);
  const last = axes.map(() => -1);
  const inputsOf = [last, axes.map(() => BEFORE_FIRST), axes, last].map(numbers => to.int64(numbers));
  to.emit('Slice', [x!, ...inputsOf], { outputs: y });
};

const pad: Rule = (to, node, [x], y) => {
  const paddings = node.attributes.paddings as number[][];
  const pads = [...paddings.map(([before]) => before!), ...paddings.map(([, after]) => after!)];
  const value = to.scalar(dtypeOf(node), Number(node.attributes.constantValue ?? 0));
  to.emit('Pad', [x!, to.int64(pads), value], { outputs: y });
};

const gather: Rule = (to, { inputs, attributes }, [x, indices], y) => {
  const { axis, batchDims = 0 } = attributes;
  const [at] = axesOf(axis, inputs[0]!.shape);
  if (batchDims === 0) {
    to.emit('Gather', [x!, indices!], { attributes: { axis: int(at!) }, outputs: y });
    return;
  }
  if (batchDims !== at) throw new Error(`gather: batchDims ${batchDims} with axis ${at} is not lowered`);
  const last = to.int64([...inputs[1]!.shape, 1]);
  const paths = to.emit('Reshape', [to.cast(indices!, 'int64'), last]);
  to.emit('GatherND', [x!, paths], { attributes: { batch_dims: int(at!) }, outputs: y });
};

/** Scatter-adds rows into zeros. */
function scatterAdd(
  to: Lowering,
  rows: number,
  width: number,
  ids: string,
  updates: string,
  count: number,
  dtype: DType,
) {
  const zeros = to.emit('Expand', [to.scalar(dtype, 0), to.int64([rows, width])]);
  const places = to.emit('Reshape', [ids, to.int64([count, 1])]);
  const shape = to.int64([count, width]);
  const flat = to.emit('Reshape', [updates, shape]);
  return addRows(to, { matrix: zeros, places, rows: flat, shape, dtype });
}

/** Ids outside the segments are dropped, as in TensorFlow.js. */
const unsortedSegmentSum: Rule = (to, { inputs, outputs, attributes }, [x, ids], y) => {
  const dtype = inputs[0]!.dtype;
  const count = sizeOf(inputs[1]!.shape);
  const segments = attributes.numSegments as number;
  const width = sizeOf(inputs[0]!.shape) / Math.max(1, count);
  const clipped = to.emit('Clip', [ids!, to.scalar('int32', 0), to.scalar('int32', segments - 1)]);
  const inside = to.cast(to.emit('Equal', [ids!, clipped]), dtype);
  const flat = to.emit('Reshape', [x!, to.int64([count, width])]);
  const kept = to.emit('Mul', [flat, to.emit('Reshape', [inside, to.int64([count, 1])])]);
  const sums = scatterAdd(to, segments, width, clipped, kept, count, dtype);
  to.emit('Reshape', [sums, to.int64(outputs[0]!.shape)], { outputs: y });
};

const scatterNd: Rule = (to, { inputs, outputs }, [indices, updates], y) => {
  const depth = inputs[0]!.shape.at(-1)!;
  const shape = outputs[0]!.shape;
  const strides = Array.from({ length: depth }, (_, i) => sizeOf(shape.slice(i + 1, depth)));
  const count = sizeOf(inputs[0]!.shape) / depth;
  const weighted = to.emit('Mul', [indices!, to.literal('int32', [depth], strides)]);
  const ids = to.emit('ReduceSum', [weighted, to.int64([-1])], { attributes: { keepdims: int(0) } });
  const rows = sizeOf(shape.slice(0, depth));
  const sums = scatterAdd(to, rows, sizeOf(shape.slice(depth)), ids, updates!, count, inputs[1]!.dtype);
  to.emit('Reshape', [sums, to.int64(shape)], { outputs: y });
};

const oneHot: Rule = (to, { inputs, outputs, attributes }, [indices], y) => {
  const { depth, onValue = 1, offValue = 0 } = attributes;
  const numbers = Array.from({ length: depth as number }, (_, i) => i);
  const rows = to.emit('Reshape', [indices!, to.int64([...inputs[0]!.shape, 1])]);
  const hit = to.emit('Equal', [rows, to.literal('int32', [depth as number], numbers)]);
  const { dtype } = outputs[0]!;
  if (onValue === 1 && offValue === 0) to.cast(hit, dtype, y);
  else
    to.emit('Where', [hit, to.scalar(dtype, onValue as number), to.scalar(dtype, offValue as number)], {
      outputs: y,
    });
};

export const RULES = {
  Abs: same('Abs'),
  Neg: same('Neg'),
  Sign: same('Sign'),
  Square: (to, _node, [x], y) => to.emit('Mul', [x!, x!], { outputs: y }),
  Exp: same('Exp'),
  Expm1: (to, _node, [x], y) =>
    to.emit('Sub', [to.emit('Exp', [x!]), to.scalar('float32', 1)], { outputs: y }),
  Log: same('Log'),
  Log1p: (to, _node, [x], y) =>
    to.emit('Log', [to.emit('Add', [x!, to.scalar('float32', 1)])], { outputs: y }),
  Sqrt: same('Sqrt'),
  Rsqrt: chain('Sqrt', 'Reciprocal'),
  Reciprocal: same('Reciprocal'),
  Sigmoid: same('Sigmoid'),
  Tanh: same('Tanh'),
  Sinh: same('Sinh'),
  Cosh: same('Cosh'),
  Sin: same('Sin'),
  Cos: same('Cos'),
  Tan: same('Tan'),
  Asin: same('Asin'),
  Acos: same('Acos'),
  Atan: same('Atan'),
  Asinh: same('Asinh'),
  Acosh: same('Acosh'),
  Atanh: same('Atanh'),
  Erf: same('Erf'),
  Floor: same('Floor'),
  Ceil: same('Ceil'),
  Round: same('Round'),
  Relu: same('Relu'),
  Relu6: (to, node, [x], y) =>
    to.emit('Clip', [x!, to.scalar(dtypeOf(node), 0), to.scalar(dtypeOf(node), 6)], { outputs: y }),
  Elu: same('Elu'),
  Selu: same('Selu'),
  Softplus: same('Softplus'),
  LeakyRelu: (to, { attributes }, x, y) =>
    to.emit('LeakyRelu', x, { attributes: { alpha: float(Number(attributes.alpha ?? 0.2)) }, outputs: y }),
  Step: step,
  ClipByValue: clip,
  IsNan: same('IsNaN'),
  IsInf: same('IsInf'),
  IsFinite: (to, _node, [x], y) =>
    to.emit('Not', [to.emit('Or', [to.emit('IsNaN', [x!]), to.emit('IsInf', [x!])])], { outputs: y }),
  LogicalNot: same('Not'),
  Cast: (to, { outputs }, [x], y) => to.cast(x!, outputs[0]!.dtype, y),
  Add: same('Add'),
  Sub: same('Sub'),
  Multiply: same('Mul'),
  RealDiv: same('Div'),
  FloorDiv: floorDiv,
  Mod: mod,
  Pow: same('Pow'),
  Maximum: same('Max'),
  Minimum: same('Min'),
  SquaredDifference: (to, _node, x, y) => {
    const difference = to.emit('Sub', x);
    to.emit('Mul', [difference, difference], { outputs: y });
  },
  Equal: same('Equal'),
  NotEqual: (to, _node, x, y) => to.emit('Not', [to.emit('Equal', x)], { outputs: y }),
  Greater: same('Greater'),
  GreaterEqual: same('GreaterOrEqual'),
  Less: same('Less'),
  LessEqual: same('LessOrEqual'),
  LogicalAnd: same('And'),
  LogicalOr: same('Or'),
  EluGrad: eluGrad,
  Prelu: same('PRelu'),
  Select: select,
  Sum: reduction('ReduceSum'),
  Mean: mean,
  Max: reduction('ReduceMax'),
  Min: reduction('ReduceMin'),
  Prod: reduction('ReduceProd'),
  All: logicalReduction('ReduceMin'),
  Any: logicalReduction('ReduceMax'),
  ArgMax: index('ArgMax'),
  ArgMin: index('ArgMin'),
  Cumsum: cumsum,
  Softmax: softmax,
  TopK: topK,
  BatchMatMul: batchMatMul,
  Einsum: (to, { attributes }, x, y) =>
    to.emit('Einsum', x, { attributes: { equation: { string: attributes.equation as string } }, outputs: y }),
  Reshape: reshape,
  Transpose: (to, { attributes }, x, y) =>
    to.emit('Transpose', x, { attributes: { perm: { ints: attributes.perm as number[] } }, outputs: y }),
  BroadcastTo: (to, { outputs }, [x], y) =>
    to.emit('Expand', [x!, to.int64(outputs[0]!.shape)], { outputs: y }),
  Tile: (to, { attributes }, [x], y) =>
    to.emit('Tile', [x!, to.int64(attributes.reps as number[])], { outputs: y }),
  Concat: (to, node, x, y) =>
    to.emit('Concat', x, { attributes: { axis: int(lastAxisOf(node, node.attributes.axis)) }, outputs: y }),
  SplitV: split,
  Slice: slice,
  StridedSlice: stridedSlice,
  Reverse: reverse,
  PadV2: pad,
  GatherV2: gather,
  GatherNd: (to, _node, [x, indices], y) =>
    to.emit('GatherND', [x!, to.cast(indices!, 'int64')], { outputs: y }),
  ScatterNd: scatterNd,
  TensorScatterUpdate: (to, _node, [x, indices, updates], y) =>
    to.emit('ScatterND', [x!, to.cast(indices!, 'int64'), updates!], { outputs: y }),
  UnsortedSegmentSum: unsortedSegmentSum,
  OneHot: oneHot,
  Gemm: gemm,
  After: after,
  ...COMPOUND_RULES,
  Attention: attention(rulesOfBodies),
  AttentionGrad: attention(rulesOfBodies),
  CrossEntropy: crossEntropy,
  TokenLosses: tokenLosses,
  TokenLossesGrad: tokenLossesGrad,
} satisfies Record<OpName, Rule>;

function rulesOfBodies(): Readonly<Record<string, Rule>> {
  return RULES;
}
