// Merges a cross-entropy and its gradients into one node: all of them come from the same logits.
import { countUses, type Graph, type GraphBuilder, type Node, rewrite, type Value } from '../graph.ts';

/** lossSum, correct and count come before the gradients. */
const LOSS_OUTPUTS = 3;

/** The CrossEntropy nodes of one loss: each gives the sums, and at most one gradient besides. */
interface Group {
  readonly nodes: readonly Node[];
  /** Which of the gradients something reads. */
  readonly hidden: boolean;
  readonly weight: boolean;
}

/** By the first output of each node that belongs to one. */
function groupsOf(graph: Graph): Map<Value, Group> {
  const ids = new Map<Value, number>();
  const idOf = (value: Value): number => {
    const id = ids.get(value) ?? ids.size;
    ids.set(value, id);
    return id;
  };
  const uses = countUses(graph);
  const losses = graph.nodes.filter(
    ({ op, attributes }) => op === 'CrossEntropy' && attributes.gradients !== 'both',
  );
  const byLoss = Map.groupBy(
    losses,
    ({ inputs, attributes }) => `${inputs.map(idOf)} capped ${attributes.softcap}`,
  );
  const groups = Array.from(byLoss.values(), (nodes): Group => {
    const isRead = (kind: string) =>
      nodes.some(
        ({ attributes, outputs }) => attributes.gradients === kind && uses.has(outputs[LOSS_OUTPUTS]!),
      );
    return { nodes, hidden: isRead('hidden'), weight: isRead('weight') };
  });
  return new Map(groups.flatMap(group => group.nodes.map(({ outputs }) => [outputs[0]!, group])));
}

interface Joined {
  readonly sums: readonly Value[];
  readonly hidden?: Value;
  readonly weight?: Value;
}

function join({ inputs, outputs, attributes }: Node, group: Group, builder: GraphBuilder): Joined {
  const gradients = (['hidden', 'weight'] as const).filter(kind => group[kind]);
  const kind = gradients.length === 2 ? 'both' : (gradients[0] ?? 'none');
  const like = { hidden: inputs[0]!, weight: inputs[1]! };
  const specs = [...outputs.slice(0, LOSS_OUTPUTS), ...gradients.map(name => like[name])];
  const values = builder.add('CrossEntropy', inputs, { ...attributes, gradients: kind }, specs);
  const found = gradients.map((name, i) => [name, values[LOSS_OUTPUTS + i]!]);
  return { sums: values.slice(0, LOSS_OUTPUTS), ...Object.fromEntries(found) };
}

export function joinLosses(graph: Graph): Graph {
  const groups = groupsOf(graph);
  const joined = new Map<Group, Joined>();
  return rewrite(graph, (node, builder) => {
    const group = groups.get(node.outputs[0]!);
    if (!group) return null;
    const made = joined.get(group) ?? join(node, group, builder);
    joined.set(group, made);
    const kind = node.attributes.gradients as 'none' | 'hidden' | 'weight';
    // A gradient that nothing reads stays a value that nothing makes.
    return kind === 'none' ? made.sums : [...made.sums, made[kind] ?? node.outputs[LOSS_OUTPUTS]!];
  });
}
