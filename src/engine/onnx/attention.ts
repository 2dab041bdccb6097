// Attention over long rows in ONNX: a loop over a few heads at a time, so that the scores of a block stay in the CPU
// cache. The loop's body is the program of attention-blocks.ts, traced for that many heads.
import type { Tensor } from '@tensorflow/tfjs';
import { blocksOf } from '../attention-blocks.ts';
import { COMPOSITIONS } from '../compositions.ts';
import type { Graph, Node, Value } from '../graph.ts';
import { PASSES } from '../passes.ts';
import { trace } from '../trace.ts';
import type { Lowering } from './lowering.ts';
import { orderNodes } from './order.ts';
import type { Rule } from './rules.ts';
import { emitScan } from './scan.ts';

/** The second axis of an input: heads, key heads, or shared by all heads. */
type Axis = 'heads' | 'kvHeads' | 'none';

interface Layout {
  /** One entry per input, in order. */
  readonly inputs: readonly Axis[];
  readonly outputs: readonly Axis[];
  /** Index of the query among the inputs; the key follows it. */
  readonly query: number;
}

const masksOf = (count: number): Axis[] => Array.from({ length: count }, () => 'none');

function layoutOf({ op, inputs, outputs, attributes }: Node): Layout {
  const biased: Axis[] = attributes.biased ? ['heads'] : [];
  const given: Axis[] = ['heads', 'kvHeads', 'kvHeads', ...biased];
  const before: Axis[] = op === 'Attention' ? [] : ['heads', 'heads'];
  const known = [...before, ...given];
  return {
    inputs: [...known, ...masksOf(inputs.length - known.length)],
    outputs: outputs.length === 1 ? ['heads'] : ['heads', 'kvHeads', 'kvHeads'],
    query: before.length,
  };
}

/** Scores computed at a time: 4 MB, which two cores' caches hold. */
const SCORES = 1 << 20;

/** Key heads per iteration: the largest divisor of their number that stays under SCORES. */
function headsAtOnce({ inputs, attributes }: Node, { query: at }: Layout): number {
  const [query, key] = [inputs[at]!, inputs[at + 1]!];
  const kvHeads = key.shape[1]!;
  const blocks = blocksOf(query, key, attributes.causal as boolean);
  const largest = Math.max(...blocks.map(({ start, end, keys }) => (end - start) * keys));
  const most = Math.max(1, Math.floor(SCORES / ((query.shape[1]! / kvHeads) * largest)));
  for (let count = Math.min(kvHeads, most); count > 1; count--) if (kvHeads % count === 0) return count;
  return 1;
}

/** Traces the node's program for inputs of these shapes. */
function graphOf({ op, attributes }: Node, shapes: readonly (readonly number[])[]): Graph {
  const compose = COMPOSITIONS[op as 'Attention' | 'AttentionGrad'];
  const traced = trace({
    name: op,
    inputs: Object.fromEntries(shapes.map((shape, i) => [`x${i}`, { shape, dtype: 'float32' }])),
    weights: {},
    run: given => ({ ...compose(given, attributes) }) as unknown as Record<string, Tensor>,
  });
  return PASSES.reduce((graph, pass) => pass(graph), traced);
}

const shapesOf = (values: readonly Value[]) => values.map(({ shape }) => shape);

type Rules = Readonly<Record<string, Rule>>;

/** Emits a graph's nodes; returns the names of its outputs. */
function emitGraph(to: Lowering, graph: Graph, names: readonly string[], rules: Rules): string[] {
  Object.values(graph.inputs).forEach((value, i) => {
    to.rename(value, names[i]!);
  });
  for (const [value, data] of graph.constants)
    to.provide(value, () => to.literal(value.dtype, value.shape, Array.from(data)));
  for (const node of orderNodes(graph)) {
    const named = (values: readonly Value[]) => values.map(value => to.name(value, node.op.toLowerCase()));
    rules[node.op]!(to, node, named(node.inputs), named(node.outputs));
  }
  return Object.values(graph.outputs).map(value => to.name(value));
}

interface Plan {
  readonly node: Node;
  readonly layout: Layout;
  /** Key heads per iteration. */
  readonly count: number;
  readonly rules: Rules;
}

/** The shape of one row's part of a value in one iteration. */
function partShape({ node, layout, count }: Plan, { shape }: Value, axis: Axis): number[] {
  const kvHeads = node.inputs[layout.query + 1]!.shape[1]!;
  const heads = axis === 'none' ? shape[1]! : (shape[1]! / kvHeads) * count;
  return [1, heads, ...shape.slice(2)];
}

/** Emits the loop over the heads of one row. `names` are values of that row, in any shape. */
function emitHeads(to: Lowering, plan: Plan, names: readonly string[]): string[] {
  const { node, layout, count, rules } = plan;
  const loops = node.inputs[layout.query + 1]!.shape[1]! / count;
  const shapes = node.inputs.map((value, i) => partShape(plan, value, layout.inputs[i]!));
  const graph = graphOf(node, shapes);
  const results = node.outputs.map((value, i) => partShape(plan, value, layout.outputs[i]!));
  const whole = names.map((name, i) =>
    layout.inputs[i] === 'none' ? to.emit('Reshape', [name, to.int64(shapes[i]!)]) : name,
  );
  const isSplit = (i: number) => layout.inputs[i] !== 'none';
  const scanned = whole.flatMap((name, i) => (isSplit(i) ? [{ name, shape: [loops, ...shapes[i]!] }] : []));
  return emitScan(to, scanned, results, (inner, parts) => {
    const next = parts.values();
    const all = whole.map((name, i) => (isSplit(i) ? next.next().value! : name));
    return emitGraph(inner, graph, all, rules);
  });
}

/** Emits a loop over the rows, if there are several. Values shared by all rows are read in place. */
function emitRows(to: Lowering, plan: Plan, names: readonly string[]): string[] {
  const { node } = plan;
  const rows = node.inputs[plan.layout.query]!.shape[0]!;
  if (rows === 1) return emitHeads(to, plan, names);
  const isOwn = (i: number) => node.inputs[i]!.shape[0] === rows;
  const scanned = names.flatMap((name, i) => (isOwn(i) ? [{ name, shape: node.inputs[i]!.shape }] : []));
  const results = node.outputs.map(({ shape }) => shape.slice(1));
  const made = emitScan(to, scanned, results, (inner, parts) => {
    const next = parts.values();
    const all = names.map((name, i) => (isOwn(i) ? next.next().value! : name));
    return emitHeads(inner, plan, all).map((name, i) =>
      inner.emit('Reshape', [name, inner.int64(results[i]!)]),
    );
  });
  const sumOf = (name: string) => to.emit('ReduceSum', [name, to.int64([0])]);
  // A bias shared by all rows has the sum of their gradients.
  return made.map((name, i) => (node.outputs[i]!.shape[0] === rows ? name : sumOf(name)));
}

/** GPUs take all heads at once. `rules` lowers the ops of the body. */
export const attention =
  (rules: () => Rules): Rule =>
  (to, node, x, y) => {
    const layout = layoutOf(node);
    const plan = { node, layout, count: headsAtOnce(node, layout), rules: rules() };
    const whole = () => emitGraph(to, graphOf(node, shapesOf(node.inputs)), x, plan.rules);
    const results = to.provider === 'cpu' ? emitRows(to, plan, x) : whole();
    results.forEach((name, i) => {
      to.emit('Reshape', [name, to.int64(node.outputs[i]!.shape)], { outputs: [y[i]!] });
    });
  };
