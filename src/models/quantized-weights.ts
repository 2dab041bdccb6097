// Quantizes the weights of a model's linear layers into a file of their own, made once and mapped by every program.
// formats/quantization.ts defines the codes, engine/onnx/frozen.ts multiplies them.
import { join } from 'node:path';
import type { QuantizedMatrix, StoredColumns, StoredTensor } from '../engine/program.ts';
import {
  BLOCK_CODES,
  type BlockQuantization,
  type ColumnQuantization,
  DIGITS,
  emptyColumns,
  type Quantization,
  type QuantizedColumns,
  quantizeBlocks,
  quantizeColumns,
  quantizeTransposed,
} from '../formats/quantization.ts';
import {
  readTensor,
  type SafetensorsFile,
  type TensorToWrite,
  type Writable,
} from '../formats/safetensors.ts';
import type { Model } from './registry.ts';
import { openCopy } from './weight-copies.ts';

/** The tensors of one matrix in the file, by the suffixes of their names. */
type Parts = Record<string, TensorToWrite>;
type Matrix = StoredTensor;

/** Caches the last matrix: the parts of one matrix are written one after the other. */
function oncePerMatrix<Made>(make: (matrix: Matrix) => Promise<Made>): (matrix: Matrix) => Promise<Made> {
  let last: { readonly matrix: Matrix; readonly made: Promise<Made> } | undefined;
  return matrix => {
    if (last?.matrix !== matrix) last = { matrix, made: make(matrix) };
    return last.made;
  };
}

interface Scheme {
  /** Whether a matrix of this shape can be quantized; otherwise it stays as it is. */
  fits(shape: readonly number[]): boolean;
  /** Returns a function from a matrix to its parts, which are computed when they are written. */
  write(): (matrix: Matrix) => Parts;
  /** The parts of the matrix `name` in the file. */
  read(file: SafetensorsFile, name: string): QuantizedMatrix;
}

/** Version of the file's layout; files of other versions are made anew. */
const FORM = 3;

const PLAIN = '';
const TRANSPOSED = '.transposed';

/** Elements that are read at a time when transposing. */
const BAND_NUMBERS = 1 << 22;

/** A range of rows of a stored matrix. */
function rowsOf(matrix: Matrix, first: number, count: number): Matrix {
  const [rows, columns] = matrix.shape as [number, number];
  const rowBytes = matrix.sizeBytes / rows;
  const band = { offset: matrix.offset + first * rowBytes, sizeBytes: count * rowBytes };
  return { ...matrix, ...band, shape: [count, columns] };
}

async function quantizeTranspose(matrix: Matrix, kind: ColumnQuantization): Promise<QuantizedColumns> {
  const [rows, columns] = matrix.shape as [number, number];
  const turned = emptyColumns(columns, rows, kind);
  const most = Math.max(1, Math.floor(BAND_NUMBERS / columns));
  for (let first = 0; first < rows; first += most) {
    const band = rowsOf(matrix, first, Math.min(most, rows - first));
    quantizeTransposed(await readTensor(band), columns, turned, first, kind);
  }
  return turned;
}

const quantizePlain = async (matrix: Matrix, kind: ColumnQuantization): Promise<QuantizedColumns> =>
  quantizeColumns(await readTensor(matrix), matrix.shape[1]!, kind);

/** The parts of a matrix, plain or transposed. */
function columnParts(kind: ColumnQuantization, end: typeof PLAIN | typeof TRANSPOSED) {
  const quantize = end === PLAIN ? quantizePlain : quantizeTranspose;
  const quantized = oncePerMatrix(matrix => quantize(matrix, kind));
  return (matrix: Matrix): Parts => {
    const [rows, columns] = end === PLAIN ? matrix.shape : matrix.shape.toReversed();
    const make = (part: 'codes' | 'scales') => async (): Promise<Writable> => (await quantized(matrix))[part];
    return {
      [`${end}.codes`]: { dtype: 'I8', shape: [DIGITS[kind] * rows!, columns!], data: make('codes') },
      [`${end}.scales`]: { dtype: 'F32', shape: [columns!], data: make('scales') },
    };
  };
}

const readColumns = ({ codes, tensors }: SafetensorsFile, name: string): StoredColumns => ({
  codes: codes[`${name}.codes`]!,
  scales: tensors[`${name}.scales`]!,
});

const columnScheme = (kind: ColumnQuantization): Scheme => ({
  fits: () => true,
  write() {
    const [plain, transposed] = [columnParts(kind, PLAIN), columnParts(kind, TRANSPOSED)];
    return matrix => ({ ...plain(matrix), ...transposed(matrix) });
  },
  read: (file, name) => ({
    kind,
    plain: readColumns(file, `${name}${PLAIN}`),
    transposed: readColumns(file, `${name}${TRANSPOSED}`),
  }),
});

function blockScheme(kind: BlockQuantization): Scheme {
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
  int16: columnScheme('int16'),
  int8: columnScheme('int8'),
  int4: blockScheme('int4'),
  nf4: blockScheme('nf4'),
} satisfies Record<Quantization, Scheme>;

type Weights = Readonly<Record<string, StoredTensor>>;

/** The parts of all matrices, by their names in the file. */
const partsOfAll = (matrices: Weights, partsOf: (matrix: Matrix) => Parts): Parts =>
  Object.fromEntries(
    Object.entries(matrices).flatMap(([name, matrix]) =>
      Object.entries(partsOf(matrix)).map(([end, tensor]) => [`${name}${end}`, tensor]),
    ),
  );

/**
 * Adds to each matrix its quantized version, from a file below `directory` that is made if necessary. Matrices that the
 * scheme cannot quantize stay as they are.
 */
export async function quantizeMatrices(
  weights: Weights,
  quantization: Quantization,
  directory: string,
): Promise<Weights> {
  const scheme = SCHEMES[quantization];
  const matrices = Object.fromEntries(
    Object.entries(weights).filter(([, { shape }]) => shape.length === 2 && scheme.fits(shape)),
  );
  const copy = await openCopy(join(directory, `${quantization}-${FORM}`), matrices, () =>
    partsOfAll(matrices, scheme.write()),
  );
  const quantized = Object.entries(matrices).map(([name, stored]) => [
    name,
    { ...stored, quantized: scheme.read(copy, name) },
  ]);
  return { ...weights, ...Object.fromEntries(quantized) };
}

/**
 * Adds to the output layer `name` the int16 transpose that logits are computed from: int8 is too coarse for
 * probabilities.
 */
export async function withScoring(weights: Weights, name: string, directory: string): Promise<Weights> {
  const matrix = weights[name]!;
  const layer = { [name]: matrix };
  const copy = await openCopy(join(directory, `scoring-${FORM}`), layer, () =>
    partsOfAll(layer, columnParts('int16', TRANSPOSED)),
  );
  return { ...weights, [name]: { ...matrix, scoring: readColumns(copy, `${name}${TRANSPOSED}`) } };
}

/**
 * The model with quantized linear layers and, for integer schemes, an int16 output layer. Embeddings and norms are not
 * quantized.
 */
export async function quantizeWeights(
  model: Model,
  quantization: Quantization,
  directory: string,
): Promise<Model> {
  const linear = model.linearLayers.map(({ weight }) => [weight, model.weights[weight]!] as const);
  const quantized = await quantizeMatrices(Object.fromEntries(linear), quantization, directory);
  const weights = { ...model.weights, ...quantized };
  if (model.outputWeight === null || !(quantization in DIGITS)) return { ...model, weights };
  return { ...model, weights: await withScoring(weights, model.outputWeight, directory) };
}
