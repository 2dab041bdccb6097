// The `onnx` engine: programs are traced once, optimized by passes, lowered to ONNX and run by ONNX Runtime.
import { realpath } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { parse } from 'node:path';
import { checkArrays, ProgramError, sizeOf } from './arrays.ts';
import type { EngineOptions } from './engine.ts';
import { productFlops } from './flops.ts';
import type { Graph, Pass } from './graph.ts';
import type { OpName } from './kernels.ts';
import { machineBytes } from './machine.ts';
import { cudaIsSetUp } from './onnx/cuda.ts';
import { openDeviceMemory } from './onnx/device-memory.ts';
import { type IntegerRange, measureIntegerRange } from './onnx/integers.ts';
import { lower } from './onnx/lower.ts';
import type { Precision, Provider } from './onnx/lowering.ts';
import { locateFromRoot, openSession, type SessionOptions } from './onnx/session.ts';
import { PASSES } from './passes.ts';
import type {
  Engine,
  Executable,
  HostArrays,
  Program,
  RunArrays,
  StoredTensor,
  TensorSpec,
} from './program.ts';
import { tf } from './tf.ts';
import { trace } from './trace.ts';
import { copiesOf } from './weights.ts';

export interface OnnxOptions {
  readonly provider: Provider;
  readonly threads: number;
  readonly passes: readonly Pass[];
  /** Of matrix products; float32 where absent. */
  readonly precision?: Precision;
  readonly profile: string | null;
  /** Range of integer products; null: none, absent: measured. */
  readonly integers?: IntegerRange | null;
}

/** Bytes of a weight in the form that products read. */
function computedBytes({ shape, quantized, scoring }: StoredTensor): number {
  if (!quantized) return 4 * sizeOf(shape) + (scoring?.codes.sizeBytes ?? 0);
  if ('plain' in quantized) return quantized.plain.codes.sizeBytes + quantized.transposed.codes.sizeBytes;
  return quantized.codes.sizeBytes + quantized.scales.sizeBytes;
}

/** Largest private copy of weights that a program sharing its weights may hold. */
const SHARED_COPY_BYTES = 32 * 2 ** 20;

/** Bytes that pre-packing would copy for this program alone. */
const ownBytes = (stored: StoredTensor): number =>
  copiesOf(stored).some(({ codes }) => codes.packed) ? 0 : computedBytes(stored);

const PRODUCTS: ReadonlySet<OpName> = new Set(['BatchMatMul', 'Gemm']);

/** Total of `ownBytes` over the weights that products read. */
function multipliedBytes({ nodes, weights }: Graph): number {
  const read = new Set(nodes.filter(({ op }) => PRODUCTS.has(op)).flatMap(({ inputs }) => inputs));
  return [...weights].reduce((sum, [value, stored]) => sum + (read.has(value) ? ownBytes(stored) : 0), 0);
}

/**
 * Private copies of the weights are worth it while they take a small part of the machine's memory. The total counts,
 * not what is free at the moment: products with pre-packed weights round differently, and a resumed run must give the
 * same bits.
 */
function weightOptions(
  graph: Graph,
  shared: boolean,
  provider: Provider,
): Pick<SessionOptions, 'prepack' | 'widenOnce'> {
  const weights = [...graph.weights.values()];
  const bytes = weights.reduce((sum, stored) => sum + computedBytes(stored), 0);
  const small = bytes <= (shared ? SHARED_COPY_BYTES : machineBytes() / 8);
  // On WebGPU the original would be gone for nodes that read it in another form (ONNX Runtime 1.30).
  return {
    prepack: provider === 'cpu' && (small || (shared && multipliedBytes(graph) <= SHARED_COPY_BYTES)),
    widenOnce: small && !weights.some(stored => copiesOf(stored).length > 0),
  };
}

const filesOf = (stored: StoredTensor): string[] => [
  stored.file,
  ...copiesOf(stored).flatMap(({ codes, scales }) => [codes.file, scales.file]),
];

/** Maps each weight file to its real path: ONNX Runtime does not follow links. */
async function resolveFiles({ weights }: Program): Promise<Map<string, string>> {
  const files = new Set(Object.values(weights).flatMap(filesOf));
  const resolved = [...files].map(async file => [file, await realpath(file)] as const);
  return new Map(await Promise.all(resolved));
}

/** The common file system root of all weight files. */
function rootOf({ name }: Program, files: Iterable<string>): string {
  const roots = new Set(Array.from(files, file => parse(file).root));
  if (roots.size > 1)
    throw new ProgramError(`${name}: weights lie on several drives: ${[...roots].join(', ')}`);
  return [...roots][0] ?? '/';
}

function specsOf(graph: Graph): Record<string, TensorSpec> {
  return Object.fromEntries(
    Object.entries(graph.outputs).map(([name, { shape, dtype }]) => [name, { shape: shape.slice(), dtype }]),
  );
}

const rename = (arrays: RunArrays, names: Readonly<Record<string, string>>): RunArrays =>
  Object.fromEntries(Object.entries(arrays).map(([name, array]) => [names[name]!, array]));

/** Results by their names in the program; those on the device are none. */
const onHost = (
  wanted: readonly string[],
  results: HostArrays,
  names: Readonly<Record<string, string>>,
): HostArrays =>
  Object.fromEntries(
    wanted.map(name => [name, results[names[name]!]!] as const).filter(([, array]) => array !== undefined),
  );

/** Integer products are used on the CPU only. */
async function rangeFor(weights: Program['weights'], options: OnnxOptions): Promise<IntegerRange | null> {
  const { integers, provider, threads } = options;
  if (integers !== undefined) return integers;
  const asked = Object.values(weights).some(
    ({ quantized, scoring }) => scoring || (quantized && 'plain' in quantized),
  );
  return provider === 'cpu' && asked ? measureIntegerRange(threads) : null;
}

/** onnxruntime-node supports device arrays on WebGPU only. */
const PROVIDERS_WITH_MEMORY: readonly Provider[] = ['webgpu'];

async function compile(program: Program, options: OnnxOptions): Promise<Executable> {
  const files = await resolveFiles(program);
  const graph = options.passes.reduce((graph, pass) => pass(graph), trace(program));
  const copies = weightOptions(graph, program.sharesWeights ?? false, options.provider);
  const lowered = lower(graph, {
    provider: options.provider,
    precision: options.precision,
    // With gradients, a recomputed value could round differently: whether a transpose is fused depends on how many
    // nodes read it.
    sharedWeights: program.sharesWeights === true && program.gradients === undefined,
    locate: file => locateFromRoot(files.get(file)!),
    widenOnce: copies.widenOnce,
    integers: await rangeFor(program.weights, options),
  });
  const session = await openSession(lowered.model, rootOf(program, files.values()), {
    ...options,
    ...copies,
    gradients: program.gradients !== undefined,
  });
  const outputs = specsOf(graph);
  const device = PROVIDERS_WITH_MEMORY.includes(options.provider);
  return {
    outputs,
    flops: productFlops(graph),
    async run(inputs, into = {}, wanted = Object.keys(outputs)) {
      checkArrays(`${program.name}: input`, program.inputs, inputs, { device });
      checkArrays(`${program.name}: output`, outputs, into, { partial: true, device });
      const asked = wanted.map(name => [lowered.outputs[name]!, into[name] ?? null]);
      const results = await session.run(rename(inputs, lowered.inputs), Object.fromEntries(asked));
      return onHost(wanted, results, lowered.outputs);
    },
    close: () => session.close(),
  };
}

/** The engine with all options, for tests and benchmarks. */
export const onnxEngine = (options: OnnxOptions): Engine => ({
  name: 'onnx',
  device: options.provider,
  memory: PROVIDERS_WITH_MEMORY.includes(options.provider) ? openDeviceMemory() : undefined,
  compile: program => compile(program, options),
});

/** Requirements of a device that npm cannot install. */
const MISSING: Record<Provider, string> = {
  cpu: 'ONNX Runtime does not start',
  cuda: 'it needs an NVIDIA driver, and CUDA libraries: `npm run setup:cuda` brings those',
  webgpu: 'it needs a Vulkan driver (Debian, Ubuntu: mesa-vulkan-drivers, or the one of the GPU’s maker)',
};

const PROBE: Program = {
  name: 'probe',
  inputs: { x: { shape: [8, 8], dtype: 'float32' } },
  weights: {},
  run: ({ x }) => ({ y: tf.matMul(x as never, x as never) }),
};

/** Throws when the device does not compute. */
async function probe(engine: Engine, provider: Provider): Promise<void> {
  try {
    const executable = await engine.compile(PROBE);
    const { y } = await executable.run({ x: new Float32Array(64).fill(1) });
    await executable.close();
    if (y!.some(number => number !== 8)) throw new Error(`8 comes out as ${y![0]}`);
  } catch (cause) {
    const { message } = cause as Error;
    throw new Error(`the device ${provider} cannot be used: ${MISSING[provider]} (${message})`, { cause });
  }
}

async function openOn(provider: Provider, { threads, precision }: EngineOptions): Promise<Engine> {
  const engine = onnxEngine({
    provider,
    threads: threads || availableParallelism(),
    passes: PASSES,
    precision,
    profile: null,
  });
  if (provider !== 'cpu') await probe(engine, provider);
  return engine;
}

/** `auto`: CUDA if it is set up and works, else the CPU in float32. */
export async function openOnnxEngine(options: EngineOptions): Promise<Engine> {
  const { device, precision } = options;
  const onProcessor = () => openOn('cpu', { ...options, precision: 'float32' });
  if (device === 'auto') return cudaIsSetUp() ? openOn('cuda', options).catch(onProcessor) : onProcessor();
  if (precision === 'bfloat16' && device !== 'cuda')
    throw new Error(`the device ${device} has no products in bfloat16: the device cuda has`);
  return openOn(device, options);
}
