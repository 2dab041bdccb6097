// What an engine runs: a program is a pure function over tensors, written with TensorFlow.js ops. Nothing here computes.
import type { Tensor } from '@tensorflow/tfjs';
import type { PackedBytes } from '../formats/onnx.ts';
import type { BlockQuantization, ColumnQuantization } from '../formats/quantization.ts';

/** Types of values inside a program. Stored weights of other types (bf16, f16) are read as float32. */
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

/** A frozen weight where it lies. */
export interface StoredTensor extends StoredBytes {
  readonly dtype: 'F32' | 'F16' | 'BF16';
  /** The matrix in few bits, for products: a run that has it reads the full numbers only where it needs single rows. */
  readonly quantized?: QuantizedMatrix;
  /** The transpose in int16, for the scores of an output layer alone. */
  readonly scoring?: StoredColumns;
}

/** Codes of a quantised matrix; formats/quantization.ts says what they stand for. */
export interface StoredCodes extends StoredBytes {
  readonly dtype: 'I8' | 'U8';
  /** What products on this machine's processor read instead, in the same file: programs that have it share it. */
  readonly packed?: readonly PackedBytes[];
}

/** codes [k, n] times scales [n]; of int16 codes are [2 * k, n], the lower digits first. */
export interface StoredColumns {
  readonly codes: StoredCodes;
  readonly scales: StoredTensor;
}

/**
 * A matrix in few bits. Whole numbers have a scale for each column, so that their products are scaled once they are added up; a
 * matrix that is multiplied as it is and transposed has two copies. Four bits have one, with scales for blocks along its rows.
 */
export type QuantizedMatrix =
  | { readonly kind: ColumnQuantization; readonly plain: StoredColumns; readonly transposed: StoredColumns }
  | { readonly kind: BlockQuantization; readonly codes: StoredCodes; readonly scales: StoredTensor };

export type Tensors = Record<string, Tensor>;

export interface Gradients {
  /** The outputs that are gradients of the others. */
  readonly outputs: readonly string[];
  /**
   * What they need of the values that the others are made of is computed again, a part at a time, instead of kept: less memory and more
   * time for the same bits. The `cpu` engine keeps everything.
   */
  readonly recompute: boolean;
}

/** A pure function of named inputs and frozen weights. It is called once to be traced, or at every run by an eager engine. */
export interface Program {
  readonly name: string;
  readonly inputs: Readonly<Record<string, TensorSpec>>;
  readonly weights: Readonly<Record<string, StoredTensor>>;
  /** Other programs use the same weights at the same time: an engine should not hold a copy of them for each. */
  readonly sharesWeights?: boolean;
  readonly gradients?: Gradients;
  run(inputs: Tensors, weights: Tensors): Tensors;
}

/** float32 -> Float32Array, int32 -> Int32Array, bool -> Uint8Array (0 or 1). Row-major. */
export type HostArray = Float32Array | Int32Array | Uint8Array;
export type HostArrays = Record<string, HostArray>;

/** float32 numbers in the memory of a device, row-major; what they are is read through the memory that made it. */
export interface DeviceArray {
  readonly length: number;
}

/** What a run reads and writes: arrays on the device in place of float32 ones where the engine has a memory for them. */
export type RunArrays = Record<string, HostArray | DeviceArray>;

/** A program made ready for fixed shapes. `run` resolves when every output is where it was asked for. */
export interface Executable {
  readonly outputs: Readonly<Record<string, TensorSpec>>;
  /** Of the matrix products of a run; absent where no graph is made of the program. */
  readonly flops?: number;
  /** `into` names outputs to write into arrays of the caller's own; they must not overlap any input. Resolves to those in host memory. */
  run(inputs: RunArrays, into?: RunArrays): Promise<HostArrays>;
  close(): Promise<void>;
}

/** Arrays that stay on the device between runs, of whatever programs of the engine. */
export interface DeviceMemory {
  /** A copy of the array. */
  place(array: Float32Array): Promise<DeviceArray>;
  /** Copies to the host, bit for bit. */
  read(from: DeviceArray, into: Float32Array): Promise<void>;
  /** Gives the memory back: the array is of no use after it. */
  free(array: DeviceArray): void;
}

export interface Engine {
  /** `onnx`, `tensorflow` or `cpu` (TensorFlow.js in plain JavaScript, for tests). */
  readonly name: string;
  readonly device: string;
  /** Absent where programs compute in host memory, and where a device takes and gives host arrays only. */
  readonly memory?: DeviceMemory;
  /** Throws when an input or a weight does not fit its spec, or an op has no lowering. */
  compile(program: Program): Promise<Executable>;
}
