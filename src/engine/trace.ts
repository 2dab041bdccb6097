// Traces a program into a graph: a TensorFlow.js backend whose kernels record nodes instead of computing.
// TensorFlow.js's autodiff runs on it too, so gradients are recorded as well. It optimizes nothing.
import type { BackendValues, DataId, DataType, KernelConfig, TensorInfo } from '@tensorflow/tfjs';
import { allocate, ProgramError } from './arrays.ts';
import { onBackend } from './eager.ts';
import { type Graph, GraphBuilder, type Value } from './graph.ts';
import { type Attributes, axesOf, KERNELS, type Kernel, type OpName } from './kernels.ts';
import { TRACE_BACKEND } from './primitive.ts';
import type { DType, Program, TensorSpec } from './program.ts';
import { tf } from './tf.ts';

/** Holds the graph so far, and the value behind each of TensorFlow.js's data ids. */
class TraceBackend extends tf.KernelBackend {
  readonly builder = new GraphBuilder();
  readonly #values = new WeakMap<DataId, Value>();

  override write(values: BackendValues, shape: number[], dtype: DataType): DataId {
    return this.info(this.literal(values as ArrayLike<number>, { shape, dtype: dtype as DType })).dataId;
  }

  /** A constant; if all elements are equal it is stored as one number and broadcast. */
  literal(values: ArrayLike<number>, { shape, dtype }: TensorSpec): Value {
    const data = allocate({ shape, dtype });
    data.set(values);
    if (data.length <= 1 || data.some(number => number !== data[0]))
      return this.builder.constant({ shape, dtype }, data);
    return this.full(shape, dtype, data[0]!);
  }

  full(shape: readonly number[], dtype: DType, number: number): Value {
    const data = allocate({ shape: [], dtype });
    data[0] = number;
    const one = this.builder.constant({ shape: [], dtype }, data);
    return shape.length === 0 ? one : this.record('BroadcastTo', [one], { shape })[0]!;
  }

  record(op: OpName, inputs: readonly Value[], attributes: Attributes): Value[] {
    const outputs = (KERNELS[op] as Kernel).infer(inputs, attributes);
    return this.builder.add(op, inputs, attributes, Array.isArray(outputs) ? outputs : [outputs]);
  }

  value(info: { dataId: DataId }): Value {
    const value = this.#values.get(info.dataId);
    if (!value) throw new ProgramError('a program used a tensor that was made outside of it');
    return value;
  }

  info(value: Value): TensorInfo {
    const dataId = {};
    this.#values.set(dataId, value);
    return { dataId, shape: value.shape.slice(), dtype: value.dtype };
  }

  override readSync(): never {
    throw new ProgramError('a program cannot read its tensors: it is traced once, without numbers');
  }

  override read(): never {
    return this.readSync();
  }

  // Values belong to the graph; TensorFlow.js's reference counting frees nothing.
  override refCount = () => 1;
  override incRef(): void {}
  override dispose(): void {}
  override disposeData = () => true;
  override numDataIds = () => 0;
  override memory = () => ({ unreliable: true });
  override floatPrecision = (): 32 => 32;
  override epsilon = () => 1e-7;
  override move(): never {
    throw new ProgramError('a program used a tensor that was made outside of it');
  }
}

type Expansion = (trace: TraceBackend, inputs: readonly Value[], attributes: Attributes) => Value | Value[];

const reshape = (trace: TraceBackend, value: Value, shape: readonly number[]) =>
  trace.record('Reshape', [value], { shape })[0]!;

function fusedMatMul(trace: TraceBackend, inputs: readonly Value[], attributes: Attributes): Value {
  const { transposeA, transposeB, activation = 'linear' } = attributes;
  const [a, b, bias] = inputs;
  const [product] = trace.record('BatchMatMul', [a!, b!], {
    transposeA: transposeA!,
    transposeB: transposeB!,
  });
  const sum = bias ? trace.record('Add', [product!, bias], {})[0]! : product!;
  if (activation === 'linear') return sum;
  const op = `${(activation as string)[0]!.toUpperCase()}${(activation as string).slice(1)}`;
  if (!['Relu', 'Relu6', 'Elu', 'Sigmoid'].includes(op))
    throw new ProgramError(`fused.matMul: activation '${activation}' is not traced`);
  return trace.record(op as OpName, [sum], {})[0]!;
}

function unpack(trace: TraceBackend, [value]: readonly Value[], { axis }: Attributes): Value[] {
  const [at] = axesOf(axis, value!.shape);
  const shape = value!.shape.toSpliced(at!, 1);
  const parts = trace.record('SplitV', [value!], { numOrSizeSplits: value!.shape[at!]!, axis: at! });
  return parts.map(part => reshape(trace, part, shape));
}

function pack(trace: TraceBackend, inputs: readonly Value[], { axis }: Attributes): Value {
  const rank = inputs[0]!.shape.length + 1;
  const at = (axis as number) < 0 ? rank + (axis as number) : (axis as number);
  const parts = inputs.map(input => reshape(trace, input, input.shape.toSpliced(at, 0, 1)));
  return trace.record('Concat', parts, { axis: at })[0]!;
}

/** A tile along axes of length 1 is a broadcast. */
function tile(trace: TraceBackend, [x]: readonly Value[], { reps }: Attributes): Value {
  const times = reps as readonly number[];
  const shape = x!.shape.map((length, i) => length * times[i]!);
  const broadcasts = times.every((n, i) => n === 1 || x!.shape[i] === 1);
  return trace.record(
    broadcasts ? 'BroadcastTo' : 'Tile',
    [x!],
    broadcasts ? { shape } : { reps: times },
  )[0]!;
}

function stridedSlice(trace: TraceBackend, [x]: readonly Value[], attributes: Attributes): Value {
  const { begin, end, strides } = attributes as unknown as Record<'begin' | 'end' | 'strides', number[]>;
  const { beginMask, endMask, ellipsisMask, newAxisMask, shrinkAxisMask } = attributes as Record<
    string,
    number
  >;
  const masks = [beginMask, endMask, ellipsisMask, newAxisMask, shrinkAxisMask] as [
    number,
    number,
    number,
    number,
    number,
  ];
  const info = tf.slice_util.sliceInfo(x!.shape.slice(), begin, end, strides, ...masks);
  const dense = { begin: info.begin, end: info.end, strides: info.strides };
  return reshape(trace, trace.record('StridedSlice', [x!], dense)[0]!, info.finalShape);
}

function range(
  trace: TraceBackend,
  _inputs: readonly Value[],
  { start, stop, step, dtype }: Attributes,
): Value {
  const count = Math.max(0, Math.ceil(((stop as number) - (start as number)) / (step as number)));
  const numbers = Array.from({ length: count }, (_, i) => (start as number) + i * (step as number));
  return trace.literal(numbers, { shape: [count], dtype: dtype as DType });
}

function linSpace(trace: TraceBackend, _inputs: readonly Value[], { start, stop, num }: Attributes): Value {
  const step = ((stop as number) - (start as number)) / Math.max(1, (num as number) - 1);
  const numbers = Array.from({ length: num as number }, (_, i) => (start as number) + i * step);
  return trace.literal(numbers, { shape: [num as number], dtype: 'float32' });
}

/** TensorFlow.js kernels that expand into other ops; every other kernel is recorded under its own name. */
const EXPANSIONS: Record<string, { inputs: Kernel['inputs']; expand: Expansion }> = {
  Identity: { inputs: ['x'], expand: (_trace, [x]) => x! },
  ZerosLike: { inputs: ['x'], expand: (trace, [x]) => trace.full(x!.shape, x!.dtype, 0) },
  OnesLike: { inputs: ['x'], expand: (trace, [x]) => trace.full(x!.shape, x!.dtype, 1) },
  Fill: {
    inputs: [],
    expand: (trace, _inputs, { shape, value, dtype = 'float32' }) =>
      trace.full(shape as number[], dtype as DType, value as number),
  },
  Range: { inputs: [], expand: range },
  LinSpace: { inputs: [], expand: linSpace },
  ExpandDims: {
    inputs: ['input'],
    expand(trace, [x], { dim }) {
      const at = (dim as number) < 0 ? x!.shape.length + 1 + (dim as number) : (dim as number);
      return reshape(trace, x!, x!.shape.toSpliced(at, 0, 1));
    },
  },
  Pack: { inputs: 'list', expand: pack },
  Unpack: { inputs: ['value'], expand: unpack },
  Tile: { inputs: ['x'], expand: tile },
  StridedSlice: { inputs: ['x'], expand: stridedSlice },
  AddN: {
    inputs: 'list',
    expand: (trace, [first, ...rest]) =>
      rest.reduce((sum, term) => trace.record('Add', [sum, term], {})[0]!, first!),
  },
  _FusedMatMul: { inputs: ['a', 'b', 'bias'], expand: fusedMatMul },
};

function kernelConfig(kernelName: string, names: Kernel['inputs'], expand: Expansion): KernelConfig {
  return {
    kernelName,
    backendName: TRACE_BACKEND,
    kernelFunc({ inputs, attrs, backend }) {
      const trace = backend as TraceBackend;
      const infos = names === 'list' ? Object.values(inputs) : names.map(name => inputs[name]);
      const values = infos.filter(info => info != null).map(info => trace.value(info as TensorInfo));
      const result = expand(trace, values, definedOnly(attrs));
      return Array.isArray(result) ? result.map(value => trace.info(value)) : trace.info(result);
    },
  };
}

const definedOnly = (attrs: object | undefined): Attributes =>
  Object.fromEntries(Object.entries(attrs ?? {}).filter(([, value]) => value != null));

for (const [name, { inputs, expand }] of Object.entries(EXPANSIONS))
  tf.registerKernel(kernelConfig(name, inputs, expand));
for (const [name, kernel] of Object.entries(KERNELS) as [OpName, Kernel][]) {
  if (Object.hasOwn(EXPANSIONS, name)) continue;
  tf.registerKernel(
    kernelConfig(name, kernel.inputs, (trace, inputs, attributes) => {
      const outputs = trace.record(name, inputs, attributes);
      return Array.isArray(kernel.infer(inputs, attributes)) ? outputs : outputs[0]!;
    }),
  );
}

const declare = (specs: Readonly<Record<string, TensorSpec>>): Record<string, Value> =>
  Object.fromEntries(
    Object.entries(specs).map(([name, { shape, dtype }]) => [name, { shape: shape.slice(), dtype }]),
  );

/**
 * Runs the program once, symbolically. Throws ProgramError when it uses an op without a kernel or reads a tensor's
 * data.
 */
export function trace(program: Program): Graph {
  const backend = new TraceBackend();
  tf.registerBackend(TRACE_BACKEND, () => backend);
  const inputs = declare(program.inputs);
  const weights = new Map<Value, Program['weights'][string]>();
  const weightValues: Record<string, Value> = {};
  for (const [name, stored] of Object.entries(program.weights)) {
    const value: Value = { shape: stored.shape.slice(), dtype: 'float32' };
    weights.set(value, stored);
    weightValues[name] = value;
  }
  try {
    const outputs = onBackend(TRACE_BACKEND, () => {
      tf.engine().startScope();
      try {
        const tensors = (values: Record<string, Value>) =>
          Object.fromEntries(
            Object.entries(values).map(([name, value]) => [
              name,
              tf.engine().makeTensorFromTensorInfo(backend.info(value)),
            ]),
          );
        const results = program.run(tensors(inputs), tensors(weightValues));
        return Object.fromEntries(
          Object.entries(results).map(([name, tensor]) => [name, backend.value(tensor)]),
        );
      } finally {
        tf.engine().endScope();
      }
    });
    const { nodes, constants } = backend.builder;
    const { name, gradients } = program;
    return { name, inputs, weights, constants, nodes, outputs, gradients };
  } finally {
    tf.removeBackend(TRACE_BACKEND);
  }
}
