// Removes ops that change nothing, and merges consecutive reshapes, transposes and scalings.
import { sizeOf } from '../arrays.ts';
import {
  type Graph,
  type GraphBuilder,
  type Node,
  type Rewrite,
  rewrite,
  sameShape,
  type Value,
} from '../graph.ts';
import type { OpName } from '../kernels.ts';

/** Removes the op if it keeps the shape. */
const unchanged: Rewrite = ({ inputs, outputs }) =>
  sameShape(inputs[0]!, outputs[0]!) ? [inputs[0]!] : null;

const reshape: Rewrite = (node, builder) => {
  const before = builder.producer(node.inputs[0]!, 'Reshape');
  const source = before ? before.inputs[0]! : node.inputs[0]!;
  if (sameShape(source, node.outputs[0]!)) return [source];
  return before ? builder.add('Reshape', [source], { shape: node.outputs[0]!.shape }, node.outputs) : null;
};

/** Whether the permutation only moves axes of length 1, which is a reshape. */
function keepsOrder(x: Value, perm: readonly number[]): boolean {
  const long = perm.filter(axis => x.shape[axis] !== 1);
  return long.every((axis, i) => i === 0 || axis > long[i - 1]!);
}

const transpose: Rewrite = (node, builder) => {
  const perm = node.attributes.perm as readonly number[];
  const [x] = node.inputs;
  if (perm.every((axis, i) => axis === i)) return [x!];
  const before = builder.producer(x!, 'Transpose');
  if (before) {
    const joined = perm.map(axis => (before.attributes.perm as readonly number[])[axis]!);
    if (joined.every((axis, i) => axis === i)) return [before.inputs[0]!];
    return builder.add('Transpose', [before.inputs[0]!], { perm: joined }, node.outputs);
  }
  return keepsOrder(x!, perm)
    ? builder.add('Reshape', [x!], { shape: node.outputs[0]!.shape }, node.outputs)
    : null;
};

/** A reduction over axes of length 1 is a reshape, for ops where a single element reduces to itself. */
const reduction: Rewrite = (node, builder) =>
  sizeOf(node.inputs[0]!.shape) === sizeOf(node.outputs[0]!.shape) &&
  node.inputs[0]!.dtype === node.outputs[0]!.dtype
    ? builder.add('Reshape', [node.inputs[0]!], { shape: node.outputs[0]!.shape }, node.outputs)
    : null;

/** x op e = x. `sides`: where the neutral element e may stand. x must already have the output's shape. */
const neutral =
  (element: number, sides: 'right' | 'both'): Rewrite =>
  ({ inputs: [a, b], outputs: [y] }, builder) => {
    if (builder.splat(b!) === element && sameShape(a!, y!)) return [a!];
    if (sides === 'both' && builder.splat(a!) === element && sameShape(b!, y!)) return [b!];
    return null;
  };

/** (x * c) * d = x * (c d), for scalar constants. */
const scalings: Rewrite = ({ inputs: [a, b], outputs }, builder) => {
  const factor = builder.splat(b!);
  const before = builder.producer(a!, 'Multiply');
  const earlier = before && builder.splat(before.inputs[1]!);
  if (factor === undefined || earlier === undefined || outputs[0]!.dtype !== 'float32') return null;
  if (!sameShape(before!.inputs[0]!, outputs[0]!)) return null;
  return builder.add('Multiply', [before!.inputs[0]!, builder.scalar(factor * earlier)], {}, outputs);
};

/** Moves scalar constants to the right. */
const constantRight: Rewrite = ({ op, inputs: [a, b], outputs }, builder) =>
  builder.splat(a!) !== undefined && builder.splat(b!) === undefined
    ? builder.add(op, [b!, a!], {}, outputs)
    : null;

/** Division by a constant becomes a multiplication. */
const division: Rewrite = ({ inputs: [a, b], outputs }, builder) => {
  const divisor = builder.splat(b!);
  if (divisor === undefined || divisor === 0 || sizeOf(outputs[0]!.shape) !== sizeOf(a!.shape)) return null;
  // Exact for powers of two; otherwise the last bit may differ.
  return builder.add('Multiply', [a!, builder.scalar(1 / divisor)], {}, outputs);
};

const firstOf =
  (...rules: Rewrite[]): Rewrite =>
  (node, builder) => {
    for (const rule of rules) {
      const values = rule(node, builder);
      if (values) return values;
    }
    return null;
  };

/** -(-x) = x */
const negation: Rewrite = ({ inputs }, builder) => {
  const before = builder.producer(inputs[0]!, 'Neg');
  return before ? [before.inputs[0]!] : null;
};

const soleInput: Rewrite = ({ inputs }) => (inputs.length === 1 ? [inputs[0]!] : null);

const cast: Rewrite = ({ inputs, outputs }) => (inputs[0]!.dtype === outputs[0]!.dtype ? [inputs[0]!] : null);

const RULES: Partial<Record<OpName, Rewrite>> = {
  Reshape: reshape,
  Transpose: transpose,
  BroadcastTo: unchanged,
  Tile: unchanged,
  PadV2: unchanged,
  Slice: unchanged,
  Concat: soleInput,
  Cast: cast,
  Neg: negation,
  Sum: reduction,
  Max: reduction,
  Min: reduction,
  Prod: reduction,
  Mean: reduction,
  Add: firstOf(neutral(0, 'both'), constantRight),
  Sub: neutral(0, 'right'),
  Multiply: firstOf(neutral(1, 'both'), scalings, constantRight),
  RealDiv: firstOf(neutral(1, 'right'), division),
};

const apply = (node: Node, builder: GraphBuilder) => RULES[node.op]?.(node, builder) ?? null;

export const removeIdentities = (graph: Graph): Graph => rewrite(graph, apply);
