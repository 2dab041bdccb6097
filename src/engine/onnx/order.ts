// The order of nodes in a model, by which ONNX Runtime chooses the order it runs them in. It changes no node.
import type { Graph, Node, Value } from '../graph.ts';

/**
 * ONNX Runtime goes back from the nodes that nothing reads, from the last of them to the first, and runs what each one needs. So those
 * that can run first stand last: each is run as soon as it can be, and what it reads is freed, instead of all of them in the end.
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
