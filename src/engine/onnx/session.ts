// An ONNX Runtime session: opened from an in-memory model, run on the caller's arrays, closed.
import { parse } from 'node:path';
import type { InferenceSession as Ort } from 'onnxruntime-node';
import { encodeOnnx, type OnnxModel } from '../../formats/onnx.ts';
import { isHostArray } from '../arrays.ts';
import type { HostArray, HostArrays, RunArrays } from '../program.ts';
import { tensorOn } from './device-memory.ts';
import type { Provider } from './lowering.ts';
import { InferenceSession, Tensor } from './runtime.ts';

export interface SessionOptions {
  readonly provider: Provider;
  readonly threads: number;
  /** Pre-pack weights: faster products, but a private copy instead of the file's shared pages. */
  readonly prepack: boolean;
  /**
   * Convert half-precision weights once, when the session opens, instead of at every use; all of them then stay in
   * memory as float32.
   */
  readonly widenOnce: boolean;
  /**
   * The program has gradients, and must give the same bits whether it keeps activations or recomputes them. Default:
   * no.
   */
  readonly gradients?: boolean;
  /** Prefix of ONNX Runtime's profile file, written on close; null: no profile. */
  readonly profile: string | null;
}

/** Arrays to write into; null: the output is wanted in a new one. */
type Outputs = Readonly<Record<string, RunArrays[string] | null>>;

export interface Session {
  /**
   * Resolves to the outputs in host memory; names are those of the model. The binding copies every output into a new
   * array, given ones as well (ONNX Runtime 1.30), so that to give none costs less.
   */
  run(inputs: RunArrays, outputs: Outputs): Promise<HostArrays>;
  close(): Promise<void>;
}

/**
 * Weight files are named relative to the file system root: ONNX Runtime refuses paths that leave the model's folder.
 */
export const locateFromRoot = (file: string): string =>
  file.slice(parse(file).root.length).replaceAll('\\', '/');

/** Optimizers that compute a converted weight ahead of its use, or once for distant uses, and keep it in memory. */
const OPTIMIZERS_THAT_KEEP = ['ConstantFolding', 'CommonSubexpressionElimination'];

/**
 * Optimizers that fuse ops only if nothing else reads their intermediate values, and round differently when fused: a
 * recomputed value would differ from one that gradients also read.
 */
const OPTIMIZERS_THAT_COUNT_READERS = [
  'BiasGeluFusion',
  'BiasSoftmaxFusion',
  'EmbedLayerNormFusion',
  'FastGeluFusion',
  'GeluFusionL1',
  'GeluFusionL2',
  'GemmActivationFusion',
  'GemmSumFusion',
  'LayerNormFusionL1',
  'LayerNormFusionL2',
  'MatMulActivationFusion',
  'MatMulAddFusion',
  'QuickGeluFusion',
  'SimplifiedLayerNormFusion',
  'SkipLayerNormFusion',
];

/**
 * Fuses scalar factors back into products, which products.ts keeps separate on purpose; the others are fused by our own
 * passes.
 */
const OPTIMIZER_THAT_UNDOES = 'MatMulScaleFusion';

/**
 * Ops that a device computes too imprecisely for rotary positions: WGSL guarantees 2^-11 for small angles and nothing
 * for large ones (https://www.w3.org/TR/WGSL/#floating-point-accuracy).
 */
const ON_THE_PROCESSOR: Record<Provider, readonly string[]> = {
  cpu: [],
  cuda: [],
  webgpu: ['Sin', 'Cos', 'Tan', 'Asin', 'Acos', 'Atan'],
};

const nodesOnTheProcessor = ({ graph }: OnnxModel, provider: Provider): string[] =>
  graph.nodes.filter(({ op }) => ON_THE_PROCESSOR[provider].includes(op)).map(({ outputs }) => outputs[0]!);

/** The CPU provider runs the ops that a device has no kernel for. */
function providersFor(model: OnnxModel, provider: Provider): Ort.ExecutionProviderConfig[] {
  if (provider === 'cpu') return ['cpu'];
  const forceCpuNodeNames = nodesOnTheProcessor(model, provider);
  return [{ name: provider, ...(forceCpuNodeNames.length > 0 && { forceCpuNodeNames }) }, 'cpu'];
}

const disabledOptimizers = ({ widenOnce, gradients }: SessionOptions): string[] => [
  OPTIMIZER_THAT_UNDOES,
  ...(widenOnce ? [] : OPTIMIZERS_THAT_KEEP),
  ...(gradients ? OPTIMIZERS_THAT_COUNT_READERS : []),
];

const toOrtOptions = (model: OnnxModel, root: string, options: SessionOptions): Ort.SessionOptions => ({
  executionProviders: providersFor(model, options.provider),
  intraOpNumThreads: options.threads,
  interOpNumThreads: 1,
  executionMode: 'sequential',
  graphOptimizationLevel: 'all',
  // Memory patterns would preallocate one block for all values from the second run on, in addition to the first run's
  // memory: 2.3 instead of 1.9 GB for a GPT-2 step, in the same time.
  enableMemPattern: false,
  enableProfiling: options.profile !== null,
  profileFilePrefix: options.profile ?? undefined,
  logSeverityLevel: 3,
  extra: {
    session: {
      disable_prepacking: options.prepack ? '0' : '1',
      model_external_initializers_file_folder_path: root,
      use_deterministic_compute: '1',
    },
    optimization: { disable_specified_optimizers: disabledOptimizers(options).join(';') },
  },
});

const mapValues = <From, To>(
  record: Readonly<Record<string, From>>,
  map: (name: string, value: From) => To,
) => Object.fromEntries(Object.entries(record).map(([name, value]) => [name, map(name, value)]));

/** `root` is the root of the file system that holds the weights. */
export async function openSession(model: OnnxModel, root: string, options: SessionOptions): Promise<Session> {
  const bytes = Buffer.concat(encodeOnnx(model));
  const session = await InferenceSession.create(bytes, toOrtOptions(model, root, options));
  const shapes = new Map(
    [...model.graph.inputs, ...model.graph.outputs].map(({ name, type, shape }) => [name, { type, shape }]),
  );
  const toTensor = (name: string, array: RunArrays[string]) => {
    const { type, shape } = shapes.get(name)!;
    if (!isHostArray(array)) return tensorOn(array, shape as number[]);
    return new Tensor(type as 'float32', array as Float32Array, shape as number[]);
  };
  const wrap = (arrays: RunArrays) => mapValues(arrays, toTensor);
  const wrapGiven = (arrays: Outputs) => mapValues(arrays, (name, array) => array && toTensor(name, array));
  return {
    async run(inputs, outputs) {
      const results = await session.run(wrap(inputs), wrapGiven(outputs));
      const onHost: HostArrays = {};
      for (const [name, tensor] of Object.entries(results)) {
        // They are aliases of our buffers and have to be disposed explicitly.
        if (tensor.location === 'gpu-buffer') tensor.dispose();
        else onHost[name] = (outputs[name] ?? tensor.data) as HostArray;
      }
      return onHost;
    },
    async close() {
      if (options.profile !== null) session.endProfiling();
      await session.release();
    },
  };
}
