// What an engine runs: a program is a pure function over tensors, written with TensorFlow.js ops. Nothing here computes.
import type { Tensor } from '@tensorflow/tfjs';

/** Types of values inside a program. Stored weights of other types (bf16, f16) are read as float32. */
export type DType = 'float32' | 'int32' | 'bool';

export interface TensorSpec {
  readonly shape: readonly number[];
  readonly dtype: DType;
}

/** A frozen weight where it lies: a range of bytes in a `.safetensors` file, little-endian, row-major. */
export interface StoredTensor {
  readonly file: string;
  readonly offset: number;
  readonly sizeBytes: number;
  readonly shape: readonly number[];
  readonly dtype: 'F32' | 'F16' | 'BF16';
}

export type Tensors = Record<string, Tensor>;

/** A pure function of named inputs and frozen weights. It is called once to be traced, or at every run by an eager engine. */
export interface Program {
  readonly name: string;
  readonly inputs: Readonly<Record<string, TensorSpec>>;
  readonly weights: Readonly<Record<string, StoredTensor>>;
  /** Other programs use the same weights at the same time: an engine should not hold a copy of them for each. */
  readonly sharesWeights?: boolean;
  run(inputs: Tensors, weights: Tensors): Tensors;
}

/** float32 -> Float32Array, int32 -> Int32Array, bool -> Uint8Array (0 or 1). Row-major. */
export type HostArray = Float32Array | Int32Array | Uint8Array;
export type HostArrays = Record<string, HostArray>;

/** A program made ready for fixed shapes. `run` resolves when every output is in host memory. */
export interface Executable {
  readonly outputs: Readonly<Record<string, TensorSpec>>;
  /** `into` names outputs to write into arrays of the caller's own; they must not overlap any input. */
  run(inputs: HostArrays, into?: HostArrays): Promise<HostArrays>;
  close(): Promise<void>;
}

export interface Engine {
  /** `onnx`, `tensorflow` or `cpu` (TensorFlow.js in plain JavaScript, for tests). */
  readonly name: string;
  readonly device: string;
  /** Throws when an input or a weight does not fit its spec, or an op has no lowering. */
  compile(program: Program): Promise<Executable>;
}
