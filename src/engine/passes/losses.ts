// One cross-entropy for the loss and its gradients: all come from the same scores.
import { countUses, type Graph, type Node, rewrite, type Value } from '../graph.ts';

const keyOf = (inputs: readonly Value[], ids: Map<Value, number>): string =>
  inputs
    .map(input => {
      const id = ids.get(input) ?? ids.size;
      ids.set(input, id);
      return id;
    })
    .join();

const LOSS_OUTPUTS = 3;

/** Which of a group's gradients something reads. */
function gradientsOf(nodes: readonly Node[], uses: Map<Value, number>): { hidden: boolean; weight: boolean } {
  const read = (kind: string) =>
    nodes.some(node => node.attributes.gradients === kind && uses.has(node.outputs[LOSS_OUTPUTS]!));
  return { hidden: read('hidden'), weight: read('weight') };
}

const kindOf = (hidden: boolean, weight: boolean): string =>
  hidden ? (weight ? 'both' : 'hidden') : weight ? 'weight' : 'none';

export function joinLosses(graph: Graph): Graph {
  const ids = new Map<Value, number>();
  const groups = new Map<string, Node[]>();
  for (const node of graph.nodes) {
    if (node.op !== 'CrossEntropy' || node.attributes.gradients === 'both') continue;
    const key = keyOf(node.inputs, ids);
    groups.set(key, [...(groups.get(key) ?? []), node]);
  }
  const uses = countUses(graph);
  const joined = new Map<string, { losses: Value[]; hidden?: Value; weight?: Value }>();
  const original = new Map(graph.nodes.map(node => [node.outputs[0]!, node]));
  return rewrite(graph, (node, builder) => {
    if (node.op !== 'CrossEntropy' || node.attributes.gradients === 'both') return null;
    const key = keyOf(original.get(node.outputs[0]!)!.inputs, ids);
    const nodes = groups.get(key)!;
    let made = joined.get(key);
    if (!made) {
      const { hidden, weight } = gradientsOf(nodes, uses);
      const specs = [
        ...node.outputs.slice(0, LOSS_OUTPUTS),
        ...(hidden ? [node.inputs[0]!] : []),
        ...(weight ? [node.inputs[1]!] : []),
      ];
      const values = builder.add(
        'CrossEntropy',
        node.inputs,
        { ...node.attributes, gradients: kindOf(hidden, weight) },
        specs,
      );
      const gradients = values.slice(LOSS_OUTPUTS);
      made = {
        losses: values.slice(0, LOSS_OUTPUTS),
        hidden: hidden ? gradients.shift() : undefined,
        weight: weight ? gradients.shift() : undefined,
      };
      joined.set(key, made);
    }
    const gradient = made[node.attributes.gradients as 'hidden' | 'weight'];
    return node.attributes.gradients === 'none'
      ? made.losses
      : [...made.losses, gradient ?? node.outputs[LOSS_OUTPUTS]!];
  });
}
