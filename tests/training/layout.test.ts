// Shapes of micro-batches: everything fits, little is padding, the same lengths give the same shapes.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TrainingFailure } from '../../src/training/failure.ts';
import {
  chooseShapes,
  layoutFromRecord,
  layoutToRecord,
  lengthBuckets,
  planBatch,
} from '../../src/training/layout.ts';
import { findShapes } from '../../src/training/layout-choice.ts';

const COSTS = { hiddenSize: 256 };

const options = (batches: number[][], changes = {}) => ({
  batches,
  longest: Math.max(...batches.flat()),
  maxPositions: 2048,
  maxTokens: 4096,
  ...changes,
});

describe('shapes', () => {
  it('come in four lengths to every doubling', () => {
    expect(lengthBuckets(100)).toEqual([16, 24, 32, 40, 48, 56, 64, 80, 96]);
  });

  it('hold every example exactly once, in rows that it fits', () => {
    const lengths = fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 24 });
    fc.assert(
      fc.property(fc.array(lengths, { minLength: 1, maxLength: 6 }), batches => {
        const shapes = chooseShapes(options(batches), COSTS);
        expect(shapes.length).toBeLessThanOrEqual(3);
        for (const batch of batches) {
          const plan = planBatch(batch, shapes, COSTS);
          for (const { shape, rows } of plan) {
            expect(shapes).toContainEqual(shape);
            expect(rows.length).toBeLessThanOrEqual(shape.rows);
            for (const row of rows)
              expect(row.reduce((sum, place) => sum + batch[place]!, 0)).toBeLessThanOrEqual(shape.length);
          }
          const places = plan.flatMap(({ rows }) => rows.flat()).sort((a, b) => a - b);
          expect(places).toEqual(batch.map((_, place) => place));
        }
      }),
      { numRuns: 60 },
    );
  });

  it('waste little on short examples beside a long one', () => {
    const batches = Array.from({ length: 30 }, (_, i) => (i === 0 ? [900, 30] : [30, 40, 25, 33]));
    const shapes = chooseShapes(options(batches), COSTS);
    const padded = planBatch([30, 40, 25, 33], shapes, COSTS).reduce(
      (sum, { shape }) => sum + shape.rows * shape.length,
      0,
    );
    expect(padded).toBeLessThanOrEqual(160);
  });

  it('stay within the tokens that may be held at once, but for one row of the longest example', () => {
    const shapes = chooseShapes(options([[60, 60, 60, 60, 60, 60, 60, 60]], { maxTokens: 128 }), COSTS);
    for (const { rows, length } of shapes) expect(rows * length).toBeLessThanOrEqual(128);
    expect(chooseShapes(options([[500]], { maxTokens: 128 }), COSTS)).toEqual([{ rows: 1, length: 504 }]);
  });

  it('hold a longest example that has all positions of a model', () => {
    const shapes = chooseShapes(options([[1000]], { maxPositions: 1000 }), COSTS);
    expect(shapes).toEqual([{ rows: 1, length: 1000 }]);
  });

  it('go through a record and back', () => {
    const layout = {
      shapes: [
        { rows: 2, length: 24 },
        { rows: 1, length: 64 },
      ],
      engine: 'onnx',
      device: 'cpu',
      threads: 2,
    };
    expect(layoutFromRecord(JSON.parse(JSON.stringify(layoutToRecord(layout))))).toEqual(layout);
  });
});

describe('measured memory', () => {
  const lengths = Array.from({ length: 64 }, () => 64);
  const find = (bytesPerRow: number, availableBytes: number, measured: number[] = []) =>
    findShapes({
      trainer: {
        measureMemory: async ({ rows }) => {
          measured.push(rows);
          return 1000 + bytesPerRow * rows;
        },
      },
      device: 'cpu',
      availableBytes,
      plan: { examples: 64, batchSize: 16, epochs: 1, seed: 1 },
      copies: 1,
      trainingLengths: lengths,
      validationLengths: [],
      maxPositions: 64,
      costs: COSTS,
    });

  it('bounds the rows of a micro-batch', async () => {
    const measured: number[] = [];
    const roomy = await find(1000, 1_000_000, measured);
    expect(measured).toEqual([1, 2]);
    expect(roomy[0]).toEqual({ rows: 16, length: 64 });
    const tight = await find(1000, 5500);
    expect(Math.max(...tight.map(({ rows }) => rows))).toBe(4);
  });

  it('refuses what does not fit by a single row, and says what to change', async () => {
    const error = await find(1_000_000_000, 500_000_000).catch(caught => caught);
    expect(error).toBeInstanceOf(TrainingFailure);
    expect(error.param).toBe('.hyperparameters.max_length');
    expect(error.message).toMatch(
      /64 tokens needs 1001 MB of memory, but only 500 MB are available\. Lower max_length/,
    );
  });
});
