// The graph of a traced program: values, and the ops that produce them in an order in which they can run. Plain data.
import type { Attributes, OpName } from './kernels.ts';
import type { Gradients, HostArray, StoredTensor, TensorSpec } from './program.ts';

/** A tensor in a graph. Values are compared by identity. */
export interface Value extends TensorSpec {}

export const sameShape = (a: Pick<Value, 'shape'>, b: Pick<Value, 'shape'>): boolean =>
  a.shape.length === b.shape.length && a.shape.every((length, axis) => length === b.shape[axis]);

export interface Node {
  readonly op: OpName;
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  readonly attributes: Attributes;
}

export interface Graph {
  readonly name: string;
  readonly inputs: Readonly<Record<string, Value>>;
  readonly weights: ReadonlyMap<Value, StoredTensor>;
  readonly constants: ReadonlyMap<Value, HostArray>;
  readonly nodes: readonly Node[];
  readonly outputs: Readonly<Record<string, Value>>;
  /** The program's. */
  readonly gradients?: Gradients;
}

/** A transformation of a graph into one that computes the same. */
export type Pass = (graph: Graph) => Graph;

/** A graph under construction. Passes look up the nodes made so far and append to them. */
export class GraphBuilder {
  readonly constants: Map<Value, HostArray>;
  readonly nodes: Node[] = [];
  readonly #producers = new Map<Value, Node>();

  constructor(constants: ReadonlyMap<Value, HostArray> = new Map()) {
    this.constants = new Map(constants);
  }

  constant(spec: TensorSpec, data: HostArray): Value {
    const value = { shape: spec.shape.slice(), dtype: spec.dtype };
    this.constants.set(value, data);
    return value;
  }

  scalar(number: number): Value {
    return this.constant({ shape: [], dtype: 'float32' }, Float32Array.of(number));
  }

  /** Adds a node with new outputs of the given shapes and types. */
  add(op: OpName, inputs: readonly Value[], attributes: Attributes, outputs: readonly TensorSpec[]): Value[] {
    const values = outputs.map(({ shape, dtype }) => ({ shape: shape.slice(), dtype }));
    this.push({ op, inputs, outputs: values, attributes });
    return values;
  }

  push(node: Node): void {
    this.nodes.push(node);
    for (const output of node.outputs) this.#producers.set(output, node);
  }

  /** The node that produces `value`; undefined for inputs, weights and constants. */
  producer(value: Value, op?: OpName): Node | undefined {
    const node = this.#producers.get(value);
    return op === undefined || node?.op === op ? node : undefined;
  }

  /** The value of a constant whose elements are all equal; undefined for anything else. */
  splat(value: Value): number | undefined {
    const data = this.constants.get(value);
    if (data) return data.length > 0 && data.every(number => number === data[0]) ? data[0] : undefined;
    const fill = this.producer(value, 'BroadcastTo');
    return fill && this.splat(fill.inputs[0]!);
  }
}

/** Returns the values that replace a node's outputs, one for one; null keeps the node. */
export type Rewrite = (node: Node, builder: GraphBuilder) => readonly Value[] | null;

/** Applies `rule` to the nodes in order; each node sees its inputs as already rewritten. */
export function rewrite(graph: Graph, rule: Rewrite): Graph {
  const builder = new GraphBuilder(graph.constants);
  const replaced = new Map<Value, Value>();
  const current = (value: Value): Value => replaced.get(value) ?? value;
  for (const node of graph.nodes) {
    const now: Node = { ...node, inputs: node.inputs.map(current) };
    const values = rule(now, builder);
    if (values === null) builder.push(now);
    else
      node.outputs.forEach((output, i) => {
        replaced.set(output, values[i]!);
      });
  }
  return {
    ...graph,
    constants: builder.constants,
    nodes: builder.nodes,
    outputs: Object.fromEntries(Object.entries(graph.outputs).map(([name, value]) => [name, current(value)])),
  };
}

/** How many nodes and graph outputs read each value. */
export function countUses(graph: Graph): Map<Value, number> {
  const uses = new Map<Value, number>();
  const count = (value: Value) => uses.set(value, (uses.get(value) ?? 0) + 1);
  for (const node of graph.nodes) node.inputs.forEach(count);
  Object.values(graph.outputs).forEach(count);
  return uses;
}
