// The weights of a model's linear layers in few bits, in a file of their own beside the full ones: made once, mapped by every
// program. What the codes stand for is in formats/quantization.ts, what products do with them in engine/onnx/frozen.ts.
import { join } from 'node:path';
import type { QuantizedMatrix, StoredTensor } from '../engine/program.ts';
import { BLOCK_CODES, type Quantization, quantizeBlocks, quantizeColumns } from '../formats/quantization.ts';
import {
  readTensor,
  type SafetensorsFile,
  type TensorToWrite,
  type Writable,
} from '../formats/safetensors.ts';
import type { Model } from './registry.ts';
import { openCopy } from './weight-copies.ts';

/** What the file holds of one matrix, by the ends of the tensors' names. */
type Parts = Record<string, TensorToWrite>;
type Matrix = StoredTensor;

/** Calls `make` again only when another matrix has been asked for: the parts of one are written in a row. */
function oncePerMatrix<Made>(make: (matrix: Matrix) => Promise<Made>): (matrix: Matrix) => Promise<Made> {
  let last: { readonly matrix: Matrix; readonly made: Promise<Made> } | undefined;
  return matrix => {
    if (last?.matrix !== matrix) last = { matrix, made: make(matrix) };
    return last.made;
  };
}

function transpose(matrix: Float32Array, columns: number): Float32Array {
  const rows = matrix.length / columns;
  const turned = new Float32Array(matrix.length);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      turned[column * rows + row] = matrix[row * columns + column]!;
  return turned;
}

interface Scheme {
  /** Whether a matrix can be quantised at all; else it stays as it is. */
  fits(shape: readonly number[]): boolean;
  /** -> the parts of a matrix; numbers are read when they are written. */
  write(): (matrix: Matrix) => Parts;
  /** The parts of the matrix `name`, in the file. */
  read(file: SafetensorsFile, name: string): QuantizedMatrix;
}

const PLAIN = '';
const TRANSPOSED = '.transposed';

function columnParts(): (matrix: Matrix) => Parts {
  const numbers = oncePerMatrix(readTensor);
  const plain = oncePerMatrix(async matrix => quantizeColumns(await numbers(matrix), matrix.shape[1]!));
  const transposed = oncePerMatrix(async matrix =>
    quantizeColumns(transpose(await numbers(matrix), matrix.shape[1]!), matrix.shape[0]!),
  );
  return matrix => {
    const [rows, columns] = matrix.shape as [number, number];
    const make = (of: typeof plain, part: 'codes' | 'scales') => async (): Promise<Writable> =>
      (await of(matrix))[part];
    return {
      [`${PLAIN}.codes`]: { dtype: 'I8', shape: [rows, columns], data: make(plain, 'codes') },
      [`${PLAIN}.scales`]: { dtype: 'F32', shape: [columns], data: make(plain, 'scales') },
      [`${TRANSPOSED}.codes`]: { dtype: 'I8', shape: [columns, rows], data: make(transposed, 'codes') },
      [`${TRANSPOSED}.scales`]: { dtype: 'F32', shape: [rows], data: make(transposed, 'scales') },
    };
  };
}

const int8: Scheme = {
  fits: () => true,
  write: columnParts,
  read({ codes, tensors }, name) {
    const columns = (end: string) => ({
      codes: codes[`${name}${end}.codes`]!,
      scales: tensors[`${name}${end}.scales`]!,
    });
    return { kind: 'int8', plain: columns(PLAIN), transposed: columns(TRANSPOSED) };
  },
};

function blockScheme(kind: keyof typeof BLOCK_CODES): Scheme {
  const code = BLOCK_CODES[kind];
  const count = ([rows, columns]: readonly number[]) => rows! * columns!;
  return {
    fits: shape => count(shape) % code.block === 0,
    write() {
      const quantized = oncePerMatrix(async matrix => quantizeBlocks(await readTensor(matrix), code));
      return matrix => {
        const numbers = count(matrix.shape);
        const make = (part: 'codes' | 'scales') => async (): Promise<Writable> =>
          (await quantized(matrix))[part];
        return {
          '.codes': { dtype: 'U8', shape: [numbers / 2], data: make('codes') },
          '.scales': { dtype: 'F32', shape: [numbers / code.block, 1], data: make('scales') },
        };
      };
    },
    read: ({ codes, tensors }, name) => ({
      kind,
      codes: codes[`${name}.codes`]!,
      scales: tensors[`${name}.scales`]!,
    }),
  };
}

const SCHEMES = {
  int8,
  int4: blockScheme('int4'),
  nf4: blockScheme('nf4'),
} satisfies Record<Quantization, Scheme>;

type Weights = Readonly<Record<string, StoredTensor>>;

/** Matrices with their quantised selves, from a copy below `directory` that is made now if it is not there. What the scheme does not take stays as it is. */
export async function quantizeMatrices(
  weights: Weights,
  quantization: Quantization,
  directory: string,
): Promise<Weights> {
  const scheme = SCHEMES[quantization];
  const matrices = Object.entries(weights).filter(
    ([, { shape }]) => shape.length === 2 && scheme.fits(shape),
  );
  const copy = await openCopy(join(directory, quantization), Object.fromEntries(matrices), () => {
    const partsOf = scheme.write();
    const named = ([name, matrix]: (typeof matrices)[number]) =>
      Object.entries(partsOf(matrix)).map(([end, tensor]) => [`${name}${end}`, tensor] as const);
    return Object.fromEntries(matrices.flatMap(named));
  });
  const quantized = matrices.map(([name, stored]) => [
    name,
    { ...stored, quantized: scheme.read(copy, name) },
  ]);
  return { ...weights, ...Object.fromEntries(quantized) };
}

/** The model with its linear layers quantised. Embeddings, norms and the output projection stay as they are. */
export async function quantizeWeights(
  model: Model,
  quantization: Quantization,
  directory: string,
): Promise<Model> {
  const linear = model.linearLayers.map(({ weight }) => [weight, model.weights[weight]!] as const);
  const quantized = await quantizeMatrices(Object.fromEntries(linear), quantization, directory);
  return { ...model, weights: { ...model.weights, ...quantized } };
}
