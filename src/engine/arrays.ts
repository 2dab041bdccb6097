// Host arrays: checks against the specs of a program, allocation, transposing. It knows no backend.
import type { DeviceArray, DType, HostArray, RunArrays, TensorSpec } from './program.ts';

/** An argument that does not match the program: a bug of the caller, not of a user. */
export class ProgramError extends Error {
  override readonly name = 'ProgramError';
}

interface HostArrayType {
  readonly name: string;
  new (length: number): HostArray;
  from(values: ArrayLike<number>): HostArray;
}

const ARRAYS: Record<DType, HostArrayType> = { float32: Float32Array, int32: Int32Array, bool: Uint8Array };

export const sizeOf = (shape: readonly number[]): number => shape.reduce((size, length) => size * length, 1);

export const allocate = (spec: TensorSpec): HostArray => new ARRAYS[spec.dtype](sizeOf(spec.shape));

/** The numbers in the array type of `dtype`; TensorFlow.js's plain backend also keeps integers in other array types. */
export const toHostArray = (dtype: DType, values: ArrayLike<number>): HostArray =>
  values instanceof ARRAYS[dtype] ? values : ARRAYS[dtype].from(values);

export const isHostArray = (array: HostArray | DeviceArray): array is HostArray => ArrayBuffer.isView(array);

/** Throws unless `array` has the type and length of `spec`. `device`: it may be a device array. */
function checkArray(
  what: string,
  spec: TensorSpec,
  array: HostArray | DeviceArray | undefined,
  device = false,
): asserts array {
  if (array === undefined) throw new ProgramError(`${what} is missing`);
  const fits = isHostArray(array) ? array instanceof ARRAYS[spec.dtype] : device && spec.dtype === 'float32';
  if (!fits)
    throw new ProgramError(`${what} must be a ${ARRAYS[spec.dtype].name}, got ${array.constructor.name}`);
  const size = sizeOf(spec.shape);
  if (array.length !== size)
    throw new ProgramError(`${what} must hold ${size} numbers ([${spec.shape}]), got ${array.length}`);
}

/**
 * Throws unless `arrays` holds exactly the arrays that `specs` names. `partial`: some may be absent; `device`: they may
 * be device arrays.
 */
export function checkArrays(
  what: string,
  specs: Readonly<Record<string, TensorSpec>>,
  arrays: RunArrays,
  { partial = false, device = false } = {},
): void {
  for (const name of Object.keys(arrays))
    if (!Object.hasOwn(specs, name)) throw new ProgramError(`${what} has no '${name}'`);
  for (const [name, spec] of Object.entries(specs))
    if (!partial || arrays[name] !== undefined) checkArray(`${what} '${name}'`, spec, arrays[name], device);
}

/** [rows, columns] -> [columns, rows] */
export function transpose(matrix: Float32Array, [rows, columns]: readonly number[]): Float32Array {
  const turned = new Float32Array(matrix.length);
  for (let row = 0; row < rows!; row++)
    for (let column = 0; column < columns!; column++)
      turned[column * rows! + row] = matrix[row * columns! + column]!;
  return turned;
}
