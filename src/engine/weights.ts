// Reads frozen weights into host memory as float32, dequantized if necessary, for engines that hold float32 copies.
import { BLOCK_CODES, dequantizeBlocks, dequantizeColumns } from '../formats/quantization.ts';
import { readCodes, readTensor } from '../formats/safetensors.ts';
import type { QuantizedMatrix, StoredCodes, StoredTensor } from './program.ts';

/** The quantized copies of a weight: codes with their scales. */
export const copiesOf = ({
  quantized,
  scoring,
}: StoredTensor): { codes: StoredCodes; scales: StoredTensor }[] => [
  ...(quantized ? ('plain' in quantized ? [quantized.plain, quantized.transposed] : [quantized]) : []),
  ...(scoring ? [scoring] : []),
];

async function dequantize(matrix: QuantizedMatrix): Promise<Float32Array> {
  const { codes, scales } = 'plain' in matrix ? matrix.plain : matrix;
  const bytes = await readCodes(codes);
  const numbers = await readTensor(scales);
  if ('plain' in matrix)
    return dequantizeColumns({ codes: new Int8Array(bytes.buffer), scales: numbers }, matrix.kind);
  return dequantizeBlocks({ codes: bytes, scales: numbers }, BLOCK_CODES[matrix.kind]);
}

export const readWeight = (stored: StoredTensor): Promise<Float32Array> =>
  stored.quantized ? dequantize(stored.quantized) : readTensor(stored);
