// Orders the nodes of a model, which decides the order in which ONNX Runtime runs them.
import type { Graph, Node, Value } from '../graph.ts';

/**
 * ONNX Runtime searches back from the sink nodes, last one first, and runs what each needs. Sinks that are ready
 * earliest are therefore put last: each runs as soon as it can, and its inputs are freed, instead of all sinks running
 * at the end.
 */
export function orderNodes({ nodes }: Pick<Graph, 'nodes'>): readonly Node[] {
  const read = new Set(nodes.flatMap(({ inputs }) => inputs));
  const made = new Map<Value, number>();
  const ready = ({ inputs }: Node) => Math.max(-1, ...inputs.map(input => made.get(input) ?? -1));
  const ends: { readonly node: Node; readonly ready: number }[] = [];
  const others: Node[] = [];
  nodes.forEach((node, at) => {
    for (const output of node.outputs) made.set(output, at);
    if (node.outputs.some(output => read.has(output))) others.push(node);
    else ends.push({ node, ready: ready(node) });
  });
  return [...others, ...ends.sort((a, b) => b.ready - a.ready).map(({ node }) => node)];
}
