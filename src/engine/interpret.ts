// Runs traced graphs node by node on a TensorFlow.js backend and disposes every tensor after its last use.
import type { Tensor } from '@tensorflow/tfjs';
import { checkArrays, toHostArray } from './arrays.ts';
import { COMPOSITIONS, type OwnOp } from './compositions.ts';
import { onBackend } from './eager.ts';
import { productFlops } from './flops.ts';
import type { Graph, Node, Pass, Value } from './graph.ts';
import { type Attributes, axesOf, KERNELS, type Kernel, type OpName } from './kernels.ts';
import type {
  DType,
  Engine,
  Executable,
  HostArray,
  HostArrays,
  Program,
  StoredTensor,
  TensorSpec,
  Tensors,
} from './program.ts';
import { tf } from './tf.ts';
import { trace } from './trace.ts';
import { readWeight } from './weights.ts';

type Rule = (inputs: readonly Tensor[], attributes: Attributes) => Tensor | Tensor[];

function product(a: Tensor, b: Tensor, { transposeA, transposeB, alpha = 1 }: Attributes): Tensor {
  const plain: Tensor = tf.matMul(a as never, b as never, transposeA as boolean, transposeB as boolean);
  return alpha === 1 ? plain : plain.mul(alpha as number);
}

/** Ops that need other arguments than the TensorFlow.js kernel of that name, or have no kernel. */
const RULES: Partial<Record<OpName, Rule>> = {
  After: ([x]) => x!.clone(),
  BroadcastTo: ([x], { shape }) => tf.broadcastTo(x!, shape as number[]),
  BatchMatMul: ([a, b], attributes) => product(a!, b!, attributes),
  Gemm: ([a, b, c], attributes) => product(a!, b!, attributes).add(c!),
  // The kernels do not broadcast, and removeBroadcasts leaves that to them.
  Select: ([condition, t, e]) => tf.where(condition!, t!, e!),
  // The native kernel does not accept negative axes.
  GatherV2: ([x, indices], { axis, batchDims = 0 }) =>
    tf.gather(x!, indices as never, axesOf(axis, x!.shape)[0]!, batchDims as number),
  // An end of -1 means "before the first element" in our graphs, and "the last element" in TensorFlow.
  StridedSlice([x], { begin, end, strides }) {
    const openEnds = (end as number[]).reduce((mask, at, axis) => (at < 0 ? mask | (1 << axis) : mask), 0);
    return tf.stridedSlice(x!, begin as number[], end as number[], strides as number[], 0, openEnds);
  },
};

const named = (op: OpName, inputs: readonly Tensor[]): Tensors => {
  const { inputs: names } = KERNELS[op] as Kernel;
  return names === 'list'
    ? (inputs as unknown as Tensors)
    : Object.fromEntries(inputs.map((input, i) => [names[i]!, input]));
};

/** The outputs of one node on the current backend. */
function runNode({ op, attributes }: Node, inputs: readonly Tensor[]): Tensor[] {
  const rule = RULES[op];
  if (rule) return [rule(inputs, attributes)].flat();
  if (Object.hasOwn(COMPOSITIONS, op)) return COMPOSITIONS[op as OwnOp](named(op, inputs), attributes);
  return [tf.engine().runKernel(op, named(op, inputs) as never, attributes as never)].flat() as Tensor[];
}

/** For every node, the values that can be disposed after it: not read later, not an output, weight or constant. */
function lastUses(graph: Graph): Value[][] {
  const kept = new Set<Value>([
    ...Object.values(graph.outputs),
    ...graph.weights.keys(),
    ...graph.constants.keys(),
  ]);
  const ends: Value[][] = graph.nodes.map(() => []);
  for (let i = graph.nodes.length - 1; i >= 0; i--) {
    for (const value of [...graph.nodes[i]!.inputs, ...graph.nodes[i]!.outputs]) {
      if (kept.has(value)) continue;
      kept.add(value);
      ends[i]!.push(value);
    }
  }
  return ends;
}

/**
 * Returns a function from the tensors of inputs, weights and constants to those of the outputs. It disposes the inputs;
 * it must be called inside a TensorFlow.js scope that disposes the other intermediates.
 */
function interpreter(graph: Graph): (given: ReadonlyMap<Value, Tensor>) => Tensors {
  const ends = lastUses(graph);
  return given => {
    const tensors = new Map(given);
    graph.nodes.forEach((node, i) => {
      const inputs = node.inputs.map(value => tensors.get(value)!);
      const outputs = tf.tidy(() => runNode(node, inputs));
      node.outputs.forEach((value, at) => {
        tensors.set(value, outputs[at]!);
      });
      for (const value of ends[i]!) {
        tensors.get(value)!.dispose();
        tensors.delete(value);
      }
    });
    return Object.fromEntries(
      Object.entries(graph.outputs).map(([name, value]) => [name, tensors.get(value)!]),
    );
  };
}

/** Weights on the backend's device, shared by all programs that name the same stored weight. */
class Weights {
  readonly #backend: string;
  readonly #held = new Map<string, { readonly tensor: Promise<Tensor>; users: number }>();

  constructor(backend: string) {
    this.#backend = backend;
  }

  static #keyOf = ({ file, offset, quantized }: StoredTensor) => `${quantized?.kind ?? ''} ${offset} ${file}`;

  async #load(stored: StoredTensor): Promise<Tensor> {
    const values = await readWeight(stored);
    return keepTensor(this.#backend, { shape: stored.shape, dtype: 'float32' }, values);
  }

  open(stored: StoredTensor): Promise<Tensor> {
    const key = Weights.#keyOf(stored);
    const held = this.#held.get(key) ?? { tensor: this.#load(stored), users: 0 };
    held.users++;
    this.#held.set(key, held);
    return held.tensor;
  }

  async close(stored: StoredTensor): Promise<void> {
    const key = Weights.#keyOf(stored);
    const held = this.#held.get(key)!;
    held.users--;
    if (held.users > 0) return;
    this.#held.delete(key);
    (await held.tensor).dispose();
  }
}

const keepTensor = (backend: string, { shape, dtype }: TensorSpec, values: HostArray): Tensor =>
  onBackend(backend, () => tf.keep(tf.tensor(values, shape.slice(), dtype)));

/** Copies, because `dataSync` may return an array that the backend goes on using. */
function readOutputs(tensors: Tensors, into: HostArrays): HostArrays {
  const results: HostArrays = {};
  for (const [name, tensor] of Object.entries(tensors)) {
    const values = toHostArray(tensor.dtype as DType, tensor.dataSync());
    if (into[name]) into[name].set(values);
    results[name] = into[name] ?? values.slice();
  }
  return results;
}

async function compile(
  backend: string,
  passes: readonly Pass[],
  weights: Weights,
  program: Program,
): Promise<Executable> {
  const graph = passes.reduce((graph, pass) => pass(graph), trace(program));
  const interpret = interpreter(graph);
  const used = new Set(graph.nodes.flatMap(node => node.inputs).concat(Object.values(graph.outputs)));
  const kept = new Map<Value, Tensor>();
  const stored = [...graph.weights].filter(([value]) => used.has(value));
  for (const [value, weight] of stored) kept.set(value, await weights.open(weight));
  const constants = [...graph.constants].filter(([value]) => used.has(value));
  for (const [value, data] of constants) kept.set(value, keepTensor(backend, value, data));
  return {
    outputs: Object.fromEntries(
      Object.entries(graph.outputs).map(([name, { shape, dtype }]) => [
        name,
        { shape: shape.slice(), dtype },
      ]),
    ),
    flops: productFlops(graph),
    async run(inputs: HostArrays, into: HostArrays = {}) {
      checkArrays(`${program.name}: input`, program.inputs, inputs);
      checkArrays(`${program.name}: output`, graph.outputs, into, { partial: true });
      return onBackend(backend, () => {
        tf.engine().startScope();
        try {
          const given = new Map(kept);
          for (const [name, value] of Object.entries(graph.inputs))
            given.set(value, tf.tensor(inputs[name]!, value.shape.slice(), value.dtype));
          return readOutputs(interpret(given), into);
        } finally {
          tf.engine().endScope();
        }
      });
    },
    async close() {
      for (const [, weight] of stored) await weights.close(weight);
      for (const [value] of constants) kept.get(value)!.dispose();
    },
  };
}

/** An engine on a TensorFlow.js backend that is registered under the name `backend` and initialises synchronously. */
export function interpretingEngine(
  name: string,
  device: string,
  backend: string,
  passes: readonly Pass[],
): Engine {
  const weights = new Weights(backend);
  return { name, device, compile: program => compile(backend, passes, weights, program) };
}
