// An ONNX model in ONNX Runtime: opened from memory, run on the caller's arrays, closed. It knows no graph.
import { parse } from 'node:path';
import type { InferenceSession as Ort } from 'onnxruntime-node';
import { encodeOnnx, type OnnxModel } from '../../formats/onnx.ts';
import { isHostArray } from '../arrays.ts';
import type { RunArrays } from '../program.ts';
import { tensorOn } from './device-memory.ts';
import type { Provider } from './lowering.ts';
import { InferenceSession, Tensor } from './runtime.ts';

export interface SessionOptions {
  readonly provider: Provider;
  readonly threads: number;
  /** Keep the weights rearranged in memory: faster products, but a copy of its own instead of the file's pages. */
  readonly prepack: boolean;
  /** Convert stored weights once, when the session opens, instead of at every use: then all of them stay in memory as float32. */
  readonly widenOnce: boolean;
  /** The program has gradients: it gives the same bits whether it keeps values for them or computes them again. Absent: no. */
  readonly gradients?: boolean;
  /** Start of a file name for ONNX Runtime's own profile, written on close; null: none. */
  readonly profile: string | null;
}

export interface Session {
  /** Writes every output into the given array. Names are those in the model. */
  run(inputs: RunArrays, outputs: RunArrays): Promise<void>;
  close(): Promise<void>;
}

/** Files of weights are named from the root of the file system: ONNX Runtime refuses names that leave the model's folder. */
export const locateFromRoot = (file: string): string =>
  file.slice(parse(file).root.length).replaceAll('\\', '/');

/** Those that compute a weight before it is used, or once for uses that are far apart, and hold it meanwhile. */
const OPTIMIZERS_THAT_KEEP = ['ConstantFolding', 'CommonSubexpressionElimination'];

/**
 * Those that join ops where nothing else reads what is between them, and round otherwise then: they would tell a value that gradients
 * read from one that is computed again for them.
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

/** Puts factors back into products that products.ts has taken out of them; the others are in them already (passes/). */
const OPTIMIZER_THAT_UNDOES = 'MatMulScaleFusion';

/**
 * What a device computes too coarsely for positions: of angles WGSL promises 2^-11, and of large ones nothing
 * (https://www.w3.org/TR/WGSL/#floating-point-accuracy).
 */
const ON_THE_PROCESSOR: Record<Provider, readonly string[]> = {
  cpu: [],
  cuda: [],
  webgpu: ['Sin', 'Cos', 'Tan', 'Asin', 'Acos', 'Atan'],
};

const nodesOnTheProcessor = ({ graph }: OnnxModel, provider: Provider): string[] =>
  graph.nodes.filter(({ op }) => ON_THE_PROCESSOR[provider].includes(op)).map(({ outputs }) => outputs[0]!);

/** The processor takes what a device has no kernel for. */
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
  // From the second run on it would take one block for all values of a run, besides what the first has left: 1.9 GB instead of 2.3 for a
  // step of GPT-2 without it, in the same time.
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

/** `root` is the root of the file system that holds the weights. */
export async function openSession(model: OnnxModel, root: string, options: SessionOptions): Promise<Session> {
  const bytes = Buffer.concat(encodeOnnx(model));
  const session = await InferenceSession.create(bytes, toOrtOptions(model, root, options));
  const shapes = new Map(
    [...model.graph.inputs, ...model.graph.outputs].map(({ name, type, shape }) => [name, { type, shape }]),
  );
  const wrap = (arrays: RunArrays) =>
    Object.fromEntries(
      Object.entries(arrays).map(([name, array]) => {
        const { type, shape } = shapes.get(name)!;
        if (!isHostArray(array)) return [name, tensorOn(array, shape as number[])];
        return [name, new Tensor(type as 'float32', array as Float32Array, shape as number[])];
      }),
    );
  return {
    async run(inputs, outputs) {
      const results = await session.run(wrap(inputs), wrap(outputs));
      // Further names of the same buffers, which the binding gives back by hand only.
      for (const tensor of Object.values(results)) if (tensor.location === 'gpu-buffer') tensor.dispose();
    },
    async close() {
      if (options.profile !== null) session.endProfiling();
      await session.release();
    },
  };
}
