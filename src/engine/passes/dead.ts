// Dead code elimination: drops nodes that no output depends on.
import type { Graph, Node, Value } from '../graph.ts';

export function removeDead(graph: Graph): Graph {
  const needed = new Set<Value>(Object.values(graph.outputs));
  const kept: Node[] = [];
  for (const node of graph.nodes.toReversed()) {
    if (!node.outputs.some(output => needed.has(output))) continue;
    for (const input of node.inputs) needed.add(input);
    kept.push(node);
  }
  return { ...graph, nodes: kept.reverse() };
}
