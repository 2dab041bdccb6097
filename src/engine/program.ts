// What engines run. A program is a pure function over tensors, written with TensorFlow.js ops. Types only; nothing here
// computes.
import type { Tensor } from '@tensorflow/tfjs';
import type { PackedBytes } from '../formats/onnx.ts';
import type { BlockQuantization, ColumnQuantization } from '../formats/quantization.ts';

/** Types of values inside a program. Weights stored as bf16 or f16 are read as float32. */
export type DType = 'float32' | 'int32' | 'bool';

export interface TensorSpec {
  readonly shape: readonly number[];
  readonly dtype: DType;
}

/** A range of bytes in a `.safetensors` file: little-endian, row-major. */
interface StoredBytes {
  readonly file: string;
  readonly offset: number;
  readonly sizeBytes: number;
  readonly shape: readonly number[];
}

/** A frozen weight, by its place in a file. */
export interface StoredTensor extends StoredBytes {
  readonly dtype: 'F32' | 'F16' | 'BF16';
  /**
   * The quantized matrix, for matrix products. A program that has it reads the full-precision numbers only to look up
   * single rows.
   */
  readonly quantized?: QuantizedMatrix;
  /** The transpose in int16, for computing the logits of an output layer only. */
  readonly scoring?: StoredColumns;
}

/** Codes of a quantized matrix; formats/quantization.ts defines what they stand for. */
export interface StoredCodes extends StoredBytes {
  readonly dtype: 'I8' | 'U8';
  /** The codes as ONNX Runtime packs them for this CPU, in the same file; programs that have it share one copy. */
  readonly packed?: readonly PackedBytes[];
}

/** codes [k, n] times scales [n]. For int16, codes are [2 * k, n]: all lower digits, then all upper digits. */
export interface StoredColumns {
  readonly codes: StoredCodes;
  readonly scales: StoredTensor;
}

/**
 * A quantized matrix. Integer codes have one scale per column, so that a product is scaled once, after it is summed; a
 * matrix that is multiplied both as it is and transposed therefore has two copies. Four-bit codes have one copy, with a
 * scale per block along its rows.
 */
export type QuantizedMatrix =
  | { readonly kind: ColumnQuantization; readonly plain: StoredColumns; readonly transposed: StoredColumns }
  | { readonly kind: BlockQuantization; readonly codes: StoredCodes; readonly scales: StoredTensor };

export type Tensors = Record<string, Tensor>;

export interface Gradients {
  /** Names of the outputs that are gradients. */
  readonly outputs: readonly string[];
  /**
   * Gradient checkpointing: the gradients recompute activations segment by segment instead of keeping them. Less
   * memory, more time, the same bits. The `cpu` engine ignores it and keeps everything.
   */
  readonly recompute: boolean;
}

/**
 * A pure function of named inputs and frozen weights. `run` is called once to be traced, or on every run by an eager
 * engine.
 */
export interface Program {
  readonly name: string;
  readonly inputs: Readonly<Record<string, TensorSpec>>;
  readonly weights: Readonly<Record<string, StoredTensor>>;
  /** Other programs use the same weights at the same time, so an engine should not hold a private copy of them. */
  readonly sharesWeights?: boolean;
  readonly gradients?: Gradients;
  run(inputs: Tensors, weights: Tensors): Tensors;
}

/** float32 -> Float32Array, int32 -> Int32Array, bool -> Uint8Array (0 or 1). Row-major. */
export type HostArray = Float32Array | Int32Array | Uint8Array;
export type HostArrays = Record<string, HostArray>;

/** float32 numbers in device memory, row-major. They are read through the DeviceMemory that made them. */
export interface DeviceArray {
  readonly length: number;
}

/** Inputs or outputs of a run. Where the engine has device memory, float32 arrays may be device arrays. */
export type RunArrays = Record<string, HostArray | DeviceArray>;

/** A compiled program, of fixed shapes. `run` resolves when every output has been written. */
export interface Executable {
  readonly outputs: Readonly<Record<string, TensorSpec>>;
  /** Floating-point operations of the matrix products of one run; absent where the engine makes no graph. */
  readonly flops?: number;
  /**
   * `into` gives arrays to write outputs into; they must not overlap any input. `wanted` names the outputs that will
   * be read, absent: all; an engine may leave out the others. Resolves to the outputs in host memory.
   */
  run(inputs: RunArrays, into?: RunArrays, wanted?: readonly string[]): Promise<HostArrays>;
  close(): Promise<void>;
}

/** Arrays that stay on the device between runs and are shared by all programs of the engine. */
export interface DeviceMemory {
  /** A copy of the array. */
  place(array: Float32Array): Promise<DeviceArray>;
  /** Copies to the host. */
  read(from: DeviceArray, into: Float32Array): Promise<void>;
  /** Frees the memory; the array must not be used afterwards. */
  free(array: DeviceArray): void;
}

export interface Engine {
  /** `onnx`, `tensorflow` or `cpu` (TensorFlow.js in plain JavaScript, for tests). */
  readonly name: string;
  readonly device: string;
  /** Absent where programs compute in host memory, or where the device only takes and returns host arrays. */
  readonly memory?: DeviceMemory;
  /** Throws when an input or a weight does not match its spec, or an op has no lowering. */
  compile(program: Program): Promise<Executable>;
}
