// Moves reshapes behind row-wise ops, so that hidden states stay [tokens, width] from one matrix product to the next.
import { type Graph, type GraphBuilder, type Node, rewrite, type Value } from '../graph.ts';
import type { OpName } from '../kernels.ts';

/** Elementwise ops, and ops along the last axis, of the inputs that have the output's shape. */
const ROWWISE: ReadonlySet<OpName> = new Set<OpName>([
  'Add',
  'Sub',
  'Multiply',
  'RealDiv',
  'Neg',
  'Square',
  'Exp',
  'Sigmoid',
  'Tanh',
  'Relu',
  'Cast',
  'LayerNorm',
  'LayerNormGrad',
  'RmsNorm',
  'RmsNormGrad',
  'Gelu',
  'GeluGrad',
  'Silu',
  'SiluGrad',
]);

const lastOf = (shape: readonly number[]) => shape.at(-1)!;
const rowsOf = (shape: readonly number[]) =>
  shape.slice(0, -1).reduce((product, length) => product * length, 1);

/** [..., n] -> [rows, n] */
const flat = (shape: readonly number[]): number[] => [rowsOf(shape), lastOf(shape)];

/** The value with two axes; reuses the source if it was reshaped from two axes. */
function flatten(value: Value, builder: GraphBuilder): Value {
  if (value.shape.length === 2) return value;
  const before = builder.producer(value, 'Reshape')?.inputs[0];
  const shape = flat(value.shape);
  if (before?.shape.length === 2 && before.shape[0] === shape[0] && before.shape[1] === shape[1])
    return before;
  return builder.add('Reshape', [value], { shape }, [{ shape, dtype: value.dtype }])[0]!;
}

const cameFlat = (value: Value, builder: GraphBuilder): boolean => {
  const before = builder.producer(value, 'Reshape')?.inputs[0];
  return before?.shape.length === 2 && lastOf(before.shape) === lastOf(value.shape);
};

/** Whether the input has all axes but the last in common, is a vector along the last axis, or a scalar. */
function fits(input: Value, shape: readonly number[]): boolean {
  if (input.shape.length === 0 || (input.shape.length === 1 && lastOf(input.shape) === lastOf(shape)))
    return true;
  if (input.shape.length !== shape.length) return false;
  const last = lastOf(input.shape);
  return (
    (last === 1 || last === lastOf(shape)) &&
    input.shape.slice(0, -1).every((length, i) => length === shape[i])
  );
}

function flattenNode({ op, inputs, outputs, attributes }: Node, builder: GraphBuilder): Value[] {
  const values = inputs.map(input => (input.shape.length > 2 ? flatten(input, builder) : input));
  const specs = outputs.map(({ shape, dtype }) => ({ shape: flat(shape), dtype }));
  return builder
    .add(op, values, attributes, specs)
    .map((value, i) => builder.add('Reshape', [value], { shape: outputs[i]!.shape }, [outputs[i]!])[0]!);
}

/** Splitting along the last axis. */
function flattenSplit(node: Node, builder: GraphBuilder): Value[] | null {
  const { axis } = node.attributes;
  const rank = node.inputs[0]!.shape.length;
  if (axis !== rank - 1 && axis !== -1) return null;
  return flattenNode({ ...node, attributes: { ...node.attributes, axis: 1 } }, builder);
}

export const moveReshapes = (graph: Graph): Graph =>
  rewrite(graph, (node, builder) => {
    const { shape } = node.outputs[0]!;
    if (shape.length <= 2 || !node.inputs.some(input => cameFlat(input, builder))) return null;
    if (node.op === 'SplitV') return flattenSplit(node, builder);
    if (!ROWWISE.has(node.op) || !node.inputs.every(input => fits(input, shape))) return null;
    return flattenNode(node, builder);
  });
