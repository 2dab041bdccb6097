// Gradient checkpointing (https://arxiv.org/abs/1604.06174): recomputes values of the forward pass when gradients need
// them, instead of keeping them. The same ops on the same inputs give the same bits. segments.ts chooses where the
// forward pass is cut.
import { sizeOf } from '../arrays.ts';
import { type Graph, GraphBuilder, type Node, type Value } from '../graph.ts';
import type { OpName } from '../kernels.ts';
import { chooseCuts, valuesAcross } from './segments.ts';

/** Not recomputed: its gradients are computed together with the loss, from logits over the whole vocabulary. */
const ONCE: ReadonlySet<OpName> = new Set<OpName>(['CrossEntropy']);

/** Both in the graph's order. */
interface Halves {
  /** Nodes that outputs other than gradients depend on. */
  readonly forward: readonly Node[];
  readonly backward: readonly Node[];
}

function halve({ nodes, outputs, gradients }: Graph): Halves {
  const others = Object.entries(outputs).filter(([name]) => !gradients!.outputs.includes(name));
  const needed = new Set(others.map(([, value]) => value));
  const isForward = new Set<Node>();
  for (const node of nodes.toReversed()) {
    if (!node.outputs.some(output => needed.has(output))) continue;
    isForward.add(node);
    for (const input of node.inputs) needed.add(input);
  }
  return {
    forward: nodes.filter(node => isForward.has(node)),
    backward: nodes.filter(node => !isForward.has(node)),
  };
}

/** Weights, constants, and values that depend on nothing else: they are the same in every run. */
function fixedValues({ weights, constants }: Graph, forward: readonly Node[]): Set<Value> {
  const fixed = new Set([...weights.keys(), ...constants.keys()]);
  for (const { inputs, outputs } of forward)
    if (inputs.every(input => fixed.has(input))) for (const output of outputs) fixed.add(output);
  return fixed;
}

/** The forward pass without its last part, whose gradients come first and whose values are kept. */
interface Segments {
  readonly nodes: readonly (readonly Node[])[];
  /** The segment of each value that is recomputed. */
  readonly of: ReadonlyMap<Value, number>;
}

const outputsOf = (nodes: readonly Node[]): Value[] => nodes.flatMap(({ outputs }) => outputs);
const inputsOf = (nodes: readonly Node[]): Value[] => nodes.flatMap(({ inputs }) => inputs);

function cutForward({ forward, backward }: Halves, fixed: ReadonlySet<Value>): Segments {
  const repeatable = new Set(
    outputsOf(forward.filter(({ op }) => !ONCE.has(op))).filter(value => !fixed.has(value)),
  );
  const cuts = chooseCuts(forward, new Set(inputsOf(backward).filter(value => repeatable.has(value))));
  const kept = valuesAcross(cuts, forward);
  const nodes = cuts.map((cut, i) => forward.slice(cuts[i - 1] ?? 0, cut));
  const repeated = (segment: readonly Node[]) =>
    outputsOf(segment).filter(value => repeatable.has(value) && !kept.has(value));
  return { nodes, of: new Map(nodes.flatMap((segment, i) => repeated(segment).map(value => [value, i]))) };
}

/** Depends on no recomputed segment. */
const FIRST = Number.POSITIVE_INFINITY;

/**
 * Groups the backward pass by the earliest segment that a node depends on. Segments are recomputed from the last to the
 * first.
 */
function turnsOf(backward: readonly Node[], segments: Segments): Map<number, Node[]> {
  const turns = new Map(segments.of);
  return Map.groupBy(backward, ({ inputs, outputs }) => {
    const turn = Math.min(FIRST, ...inputs.map(input => turns.get(input) ?? FIRST));
    for (const output of outputs) turns.set(output, turn);
    return turn;
  });
}

/** The nodes of a segment that these values depend on, back to values that are kept (not `own`). */
function nodesFor(
  values: readonly Value[],
  segment: readonly Node[],
  own: (value: Value) => boolean,
): Node[] {
  const needed = new Set(values.filter(own));
  const found = segment.toReversed().filter(({ inputs, outputs }) => {
    if (!outputs.some(output => needed.has(output))) return false;
    for (const input of inputs.filter(own)) needed.add(input);
    return true;
  });
  return found.reverse();
}

class Recomputation {
  readonly builder: GraphBuilder;
  readonly #segments: Segments;
  readonly #fixed: ReadonlySet<Value>;
  /** Values of the forward pass, mapped to their recomputed versions. */
  readonly #again = new Map<Value, Value>();

  constructor(graph: Graph, segments: Segments, fixed: ReadonlySet<Value>) {
    this.builder = new GraphBuilder(graph.constants);
    this.#segments = segments;
    this.#fixed = fixed;
  }

  push(nodes: readonly Node[]): void {
    for (const node of nodes)
      this.builder.push({ ...node, inputs: node.inputs.map(input => this.#again.get(input) ?? input) });
  }

  /**
   * Recomputes the values of a segment that gradients need, from what was kept at its boundaries, and not before its
   * turn.
   */
  repeat(segment: number, turn: readonly Node[], needed: readonly Value[]): void {
    const own = (value: Value) => this.#segments.of.get(value) === segment;
    const after = this.#lastRead(turn);
    const waiting = new Map<Value, Value>();
    const now = (value: Value) => this.#again.get(value) ?? waiting.get(value) ?? value;
    const nodes = nodesFor(needed, this.#segments.nodes[segment]!, own);
    for (const { op, inputs, outputs, attributes } of nodes) {
      if (inputs.every(input => now(input) === input)) {
        const least = this.#smallest(inputs);
        waiting.set(least, this.builder.add('After', [least, after], {}, [least])[0]!);
      }
      const values = this.builder.add(op, inputs.map(now), attributes, outputs);
      outputs.forEach((output, i) => {
        if (own(output)) this.#again.set(output, values[i]!);
      });
    }
  }

  /** The last of the values that a turn starts from: the gradient of the segment's output. */
  #lastRead(turn: readonly Node[]): Value {
    const read = new Set(inputsOf(turn).filter(value => !this.#segments.of.has(value)));
    const made = outputsOf(this.builder.nodes);
    return made.findLast(value => read.has(value)) ?? made.at(-1)!;
  }

  #smallest(values: readonly Value[]): Value {
    const variable = values.filter(value => !this.#fixed.has(value));
    return variable.reduce((least, value) => (sizeOf(value.shape) < sizeOf(least.shape) ? value : least));
  }
}

export function recompute(graph: Graph): Graph {
  if (!graph.gradients?.recompute) return graph;
  const halves = halve(graph);
  const fixed = fixedValues(graph, halves.forward);
  const segments = cutForward(halves, fixed);
  const turns = turnsOf(halves.backward, segments);
  const needed = inputsOf(halves.backward);
  const made = new Recomputation(graph, segments, fixed);
  made.push(halves.forward);
  made.push(turns.get(FIRST) ?? []);
  for (let segment = segments.nodes.length - 1; segment >= 0; segment--) {
    const turn = turns.get(segment) ?? [];
    made.repeat(segment, turn, needed);
    made.push(turn);
  }
  return { ...graph, nodes: made.builder.nodes };
}
