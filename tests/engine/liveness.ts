// What is alive while a graph runs, counted from its shapes: in its own order, and in the one that ONNX Runtime makes of it. Not a test itself.
import { sizeOf } from '../../src/engine/arrays.ts';
import type { Graph, Node, Value } from '../../src/engine/graph.ts';
import { orderNodes } from '../../src/engine/onnx/order.ts';

/** Back from the nodes that nothing reads, the last first; of a node's inputs the one that stands last first. */
export function onnxRuntimeOrder(graph: Pick<Graph, 'nodes'>): Node[] {
  const nodes = orderNodes(graph);
  const places = new Map(nodes.map((node, at) => [node, at]));
  const makers = new Map(nodes.flatMap(node => node.outputs.map(output => [output, node] as const)));
  const read = new Set(nodes.flatMap(({ inputs }) => inputs));
  const order = new Set<Node>();
  const visit = (node: Node): void => {
    if (order.has(node)) return;
    const before = node.inputs.flatMap(input => makers.get(input) ?? []);
    before.sort((a, b) => places.get(b)! - places.get(a)!).forEach(visit);
    order.add(node);
  };
  nodes
    .filter(({ outputs }) => !outputs.some(output => read.has(output)))
    .reverse()
    .forEach(visit);
  return [...order];
}

/** Reshapes share the memory of what they reshape. */
function sharers(nodes: readonly Node[]): (value: Value) => Value {
  const sources = new Map<Value, Value>();
  const source = (value: Value): Value => sources.get(value) ?? value;
  for (const { op, inputs, outputs } of nodes)
    if (op === 'Reshape') sources.set(outputs[0]!, source(inputs[0]!));
  return source;
}

const bytesOf = ({ shape, dtype }: Value): number => sizeOf(shape) * (dtype === 'bool' ? 1 : 4);

/** The most bytes that nodes have made and others are still to read, run in this order; what goes out of the graph is not counted. */
export function peakBytes({ nodes: all, outputs }: Graph, order: readonly Node[]): number {
  const source = sharers(all);
  const out = new Set(Object.values(outputs).map(source));
  const made = new Set(all.flatMap(node => node.outputs).map(source));
  const last = new Map<Value, Node>();
  for (const node of order)
    for (const value of [...node.inputs, ...node.outputs]) last.set(source(value), node);
  const alive = new Map<Value, number>();
  let [sum, peak] = [0, 0];
  for (const node of order) {
    for (const value of node.outputs.map(source))
      if (!out.has(value) && !alive.has(value)) {
        alive.set(value, bytesOf(value));
        sum += bytesOf(value);
      }
    peak = Math.max(peak, sum);
    for (const value of new Set([...node.inputs, ...node.outputs].map(source)))
      if (made.has(value) && last.get(value) === node && alive.has(value)) sum -= bytesOf(value);
  }
  return peak;
}
