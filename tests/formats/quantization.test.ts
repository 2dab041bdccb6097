// Numbers in few bits: NF4 as bitsandbytes has it, and how far the others are off.
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import {
  BLOCK_CODES,
  dequantizeBlocks,
  dequantizeColumns,
  quantizeBlocks,
  quantizeColumns,
} from '../../src/formats/quantization.ts';

const golden = JSON.parse(readFileSync(new URL('quantization.json', import.meta.url), 'utf8'));

test('NF4 has the codes, the scales and the numbers of bitsandbytes', () => {
  const quantized = quantizeBlocks(Float32Array.from(golden.numbers), BLOCK_CODES.nf4);
  expect(Array.from(quantized.codes)).toEqual(golden.codes);
  expect(quantized.scales).toEqual(Float32Array.from(golden.scales));
  expect(dequantizeBlocks(quantized, BLOCK_CODES.nf4)).toEqual(Float32Array.from(golden.dequantized));
});

test('int4 keeps the furthest number of a block and is off by a sixteenth of it at most', () => {
  const numbers = Float32Array.from({ length: 64 }, (_, i) => Math.sin(i * i) * (i < 32 ? 1 : 100));
  const quantized = quantizeBlocks(numbers, BLOCK_CODES.int4);
  expect(quantized.scales).toHaveLength(2);
  const back = dequantizeBlocks(quantized, BLOCK_CODES.int4);
  for (const start of [0, 32]) {
    const block = numbers.subarray(start, start + 32);
    const far = block.reduce((far, number) => (Math.abs(number) > Math.abs(far) ? number : far));
    expect(back[start + block.indexOf(far)]).toBe(far);
    // At the far end, which the sixteen codes do not reach, by an eighth.
    block.forEach((number, i) => {
      const limit = number / far < -7 / 8 ? 1 / 8 : 1 / 16;
      expect(Math.abs(back[start + i]! - number)).toBeLessThanOrEqual(Math.abs(far) * (limit + 1e-6));
    });
  }
});

test('numbers that do not fill their blocks are refused', () => {
  expect(() => quantizeBlocks(new Float32Array(40), BLOCK_CODES.int4)).toThrow(
    /40 numbers are no blocks of 32/,
  );
});

test.each([
  ['int8', [127, 0, -127, -63, 0, 0, 38, 0, 1]],
  // The lower digits, then the upper ones: 32258 is 127 * 254, and 9677 (0.3 of it) is 38 * 254 + 25.
  ['int16', [0, 0, 0, -127, 0, 126, 25, 0, -125, 127, 0, -127, -63, 0, 0, 38, 0, 1]],
] as const)(
  '%s keeps the largest number of every column and is off by half a scale at most',
  (kind, codes) => {
    const columns = 3;
    const matrix = Float32Array.of(1, 0, -1000, -0.5, 0, 3.9, 0.3, 0, 4);
    const quantized = quantizeColumns(matrix, columns, kind);
    expect(Array.from(quantized.codes)).toEqual(codes);
    const back = dequantizeColumns(quantized, kind);
    matrix.forEach((number, i) => {
      expect(Math.abs(back[i]! - number)).toBeLessThanOrEqual(quantized.scales[i % columns]! * 0.5001);
    });
  },
);
