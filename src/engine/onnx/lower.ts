// Lowers a graph to an ONNX model: inputs, outputs, constants, frozen weights by their place in files, and the nodes
// that rules.ts makes.
import type { OnnxModel, OnnxValue } from '../../formats/onnx.ts';
import type { Graph, Value } from '../graph.ts';
import { FROZEN_RULES, Frozen, type FrozenOptions } from './frozen.ts';
import { CONTRIB, Lowering, type LoweringOptions } from './lowering.ts';
import { orderNodes } from './order.ts';
import { RULES, type Rule } from './rules.ts';

export interface LoweredModel {
  readonly model: OnnxModel;
  /** Names in the model by names in the program. */
  readonly inputs: Readonly<Record<string, string>>;
  readonly outputs: Readonly<Record<string, string>>;
}

const describe = (name: string, value: Value): OnnxValue => ({ name, type: value.dtype, shape: value.shape });

function addConstants(to: Lowering, graph: Graph, used: ReadonlySet<Value>): void {
  for (const [value, data] of graph.constants) {
    if (!used.has(value)) continue;
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    to.initializers.push({ name: to.name(value, 'k'), type: value.dtype, shape: value.shape, data: bytes });
  }
}

/**
 * Gives values the names of the outputs they are. An input, weight or constant, or a second output of the same value,
 * is copied instead.
 */
function nameOutputs(to: Lowering, graph: Graph): () => void {
  const made = new Set(graph.nodes.flatMap(node => node.outputs));
  const copies: (() => void)[] = [];
  for (const [name, value] of Object.entries(graph.outputs)) {
    const outputs = [outputName(name)];
    if (made.delete(value)) to.rename(value, outputs[0]!);
    else copies.push(() => to.emit('Identity', [to.name(value)], { outputs }));
  }
  return () => {
    for (const copy of copies) copy();
  };
}

const inputName = (name: string) => `in.${name}`;
const outputName = (name: string) => `out.${name}`;

export interface LowerOptions extends FrozenOptions, LoweringOptions {}

export function lower(graph: Graph, options: LowerOptions): LoweredModel {
  const to = new Lowering(options);
  const frozen = new Frozen(to, graph.weights, options);
  const used = new Set([...graph.nodes.flatMap(node => node.inputs), ...Object.values(graph.outputs)]);
  for (const [name, value] of Object.entries(graph.inputs)) to.rename(value, inputName(name));
  const copyOutputs = nameOutputs(to, graph);
  addConstants(to, graph, used);
  for (const node of orderNodes(graph)) {
    const names = (values: readonly Value[]) => values.map(value => to.name(value, node.op.toLowerCase()));
    const y = names(node.outputs);
    if (FROZEN_RULES[node.op]?.(frozen, node, y)) continue;
    (RULES[node.op] as Rule)(to, node, names(node.inputs), y);
  }
  copyOutputs();
  const inputs = Object.entries(graph.inputs).map(([name, value]) => describe(inputName(name), value));
  const outputs = Object.entries(graph.outputs).map(([name, value]) => describe(outputName(name), value));
  return {
    model: { graph: to.graph(graph.name, inputs, outputs), opsets: { '': 21, [CONTRIB]: 1 } },
    inputs: Object.fromEntries(Object.keys(graph.inputs).map(name => [name, inputName(name)])),
    outputs: Object.fromEntries(Object.keys(graph.outputs).map(name => [name, outputName(name)])),
  };
}
