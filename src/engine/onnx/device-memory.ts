// Arrays in WebGPU device memory that runs read and write in place.
import type { InferenceSession as Ort, Tensor as OrtTensor } from 'onnxruntime-node';
import { encodeOnnx } from '../../formats/onnx.ts';
import { ProgramError } from '../arrays.ts';
import type { DeviceArray, DeviceMemory } from '../program.ts';
import { InferenceSession, Tensor } from './runtime.ts';

class WebGpuArray implements DeviceArray {
  readonly length: number;
  #tensor: OrtTensor | null;

  constructor(tensor: OrtTensor) {
    this.#tensor = tensor;
    this.length = tensor.size;
  }

  /** A freed array must not reach the binding, which would read whatever is at its address now. */
  get tensor(): OrtTensor {
    if (this.#tensor === null) throw new ProgramError('an array on the device was freed');
    return this.#tensor;
  }

  free(): void {
    this.tensor.dispose();
    this.#tensor = null;
  }
}

function asWebGpuArray(array: DeviceArray): WebGpuArray {
  if (array instanceof WebGpuArray) return array;
  throw new ProgramError('an array lies on another device');
}

/** The array as a tensor; `shape` must match its length. */
export const tensorOn = (array: DeviceArray, shape: readonly number[]): OrtTensor =>
  Tensor.fromGpuBuffer(asWebGpuArray(array).tensor.gpuBuffer, { dataType: 'float32', dims: shape });

const numbers = (name: string) => ({ name, type: 'float32', shape: ['length'] }) as const;

/** y = x, of any length. */
const COPY = {
  graph: {
    name: 'copy',
    inputs: [numbers('x')],
    outputs: [numbers('y')],
    initializers: [],
    nodes: [{ op: 'Identity', domain: '', inputs: ['x'], outputs: ['y'], attributes: {} }],
  },
  opsets: { '': 20 },
};

const openCopy = (options: Ort.SessionOptions = {}) =>
  InferenceSession.create(Buffer.concat(encodeOnnx(COPY)), {
    executionProviders: ['webgpu', 'cpu'],
    logSeverityLevel: 3,
    ...options,
  });

const onHost = (array: Float32Array) => new Tensor('float32', array, [array.length]);

/**
 * Its sessions stay open until the process ends: ONNX Runtime 1.30 destroys the device with the last session, and
 * freeing an array after that crashes the process. The `placing` session holds on to the last array it made.
 */
export function openDeviceMemory(): DeviceMemory {
  let placing: ReturnType<typeof openCopy> | undefined;
  let reading: ReturnType<typeof openCopy> | undefined;
  return {
    async place(array) {
      placing ??= openCopy({ preferredOutputLocation: 'gpu-buffer' });
      const { y } = await (await placing).run({ x: onHost(array) });
      return new WebGpuArray(y as OrtTensor);
    },
    /**
     * Reads by running a copy to a host output: `getData` of device tensors is missing in ONNX Runtime 1.30 and crashes
     * the process.
     */
    async read(from, into) {
      reading ??= openCopy();
      await (await reading).run({ x: tensorOn(from, [from.length]) }, { y: onHost(into) });
    },
    free: array => asWebGpuArray(array).free(),
  };
}
