// Removes explicit broadcasts (TensorFlow.js's gradients are full of them) before elementwise ops, which broadcast
// themselves.
import { sizeOf } from '../arrays.ts';
import { type Graph, type GraphBuilder, type Node, rewrite, sameShape, type Value } from '../graph.ts';
import { type OpName, reducedAxes } from '../kernels.ts';
import { tf } from '../tf.ts';

const ELEMENTWISE: ReadonlySet<OpName> = new Set<OpName>([
  'Add',
  'Sub',
  'Multiply',
  'RealDiv',
  'Maximum',
  'Minimum',
  'SquaredDifference',
  'Pow',
  'Equal',
  'NotEqual',
  'Greater',
  'GreaterEqual',
  'Less',
  'LessEqual',
  'LogicalAnd',
  'LogicalOr',
  'Select',
]);

function broadcastShape(inputs: readonly Value[]): number[] {
  return inputs.reduce<number[]>(
    (shape, input) => tf.backend_util.assertAndGetBroadcastShape(shape, input.shape.slice()),
    [],
  );
}

/** Reads the inputs before their broadcast; if all were broadcast, the output is broadcast instead. */
function elementwise({ op, inputs, outputs, attributes }: Node, builder: GraphBuilder): Value[] | null {
  const sources = inputs.map(input => builder.producer(input, 'BroadcastTo')?.inputs[0] ?? input);
  if (sources.every((source, i) => source === inputs[i])) return null;
  const shape = broadcastShape(sources);
  const [y] = outputs;
  if (sameShape({ shape }, y!)) return builder.add(op, sources, attributes, outputs);
  const [small] = builder.add(op, sources, attributes, [{ shape, dtype: y!.dtype }]);
  return builder.add('BroadcastTo', [small!], { shape: y!.shape }, outputs);
}

/** The sum of a broadcast number is a product. */
function sum(node: Node, builder: GraphBuilder): Value[] | null {
  const fill = builder.producer(node.inputs[0]!, 'BroadcastTo');
  const axes = reducedAxes(node.attributes, node.inputs[0]!.shape);
  const [small] = fill?.inputs ?? [];
  if (!small || sizeOf(small.shape) !== 1 || small.dtype !== 'float32') return null;
  const times = axes.reduce((product, axis) => product * node.inputs[0]!.shape[axis]!, 1);
  const [one] = builder.add('Reshape', [small], { shape: [] }, [{ shape: [], dtype: 'float32' }]);
  const [total] = builder.add('Multiply', [one!, builder.scalar(times)], {}, [
    { shape: [], dtype: 'float32' },
  ]);
  return builder.add('BroadcastTo', [total!], { shape: node.outputs[0]!.shape }, node.outputs);
}

/** Moving or reshaping a broadcast number gives a broadcast of that number. */
function moved(node: Node, builder: GraphBuilder): Value[] | null {
  const fill = builder.producer(node.inputs[0]!, 'BroadcastTo');
  if (!fill || sizeOf(fill.inputs[0]!.shape) !== 1) return null;
  const one = builder.add('Reshape', [fill.inputs[0]!], { shape: [] }, [
    { shape: [], dtype: fill.inputs[0]!.dtype },
  ]);
  return builder.add('BroadcastTo', one, { shape: node.outputs[0]!.shape }, node.outputs);
}

function unary({ op, inputs, outputs, attributes }: Node, builder: GraphBuilder): Value[] | null {
  const fill = builder.producer(inputs[0]!, 'BroadcastTo');
  if (!fill) return null;
  const { shape } = fill.inputs[0]!;
  const [small] = builder.add(op, [fill.inputs[0]!], attributes, [{ shape, dtype: outputs[0]!.dtype }]);
  return builder.add('BroadcastTo', [small!], { shape: outputs[0]!.shape }, outputs);
}

const MOVES: ReadonlySet<OpName> = new Set<OpName>(['Reshape', 'Transpose', 'Slice', 'BroadcastTo']);
const UNARY: ReadonlySet<OpName> = new Set<OpName>(['Neg', 'Cast', 'Square', 'Exp', 'LogicalNot']);

export const removeBroadcasts = (graph: Graph): Graph =>
  rewrite(graph, (node, builder) => {
    if (ELEMENTWISE.has(node.op)) return elementwise(node, builder);
    if (MOVES.has(node.op)) return moved(node, builder);
    if (UNARY.has(node.op)) return unary(node, builder);
    return node.op === 'Sum' ? sum(node, builder) : null;
  });
