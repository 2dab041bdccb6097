// Inputs of one program run besides the parameters: packed rows and dropout masks.
import { type Example, tokensOf } from '../data/example-form.ts';
import { emptyRow, fillRow, type PackedRow } from '../data/pack.ts';
import type { HostArrays, TensorSpec } from '../engine/program.ts';
import type { MicroBatchPlan } from './layout.ts';
import { KEPT, type MicroBatchShape, readShape, type TrainedModel } from './programs.ts';
import { fillKept } from './random.ts';

/** tokens, targets (-1: none), positions, segments: [rows, length] int32. */
export function tokenInputs({ rows, length }: MicroBatchShape): Record<string, TensorSpec> {
  const spec: TensorSpec = { shape: [rows, length], dtype: 'int32' };
  return { tokens: spec, targets: spec, positions: spec, segments: spec };
}

/**
 * The inputs of `tokenInputs`. All sequences of an example are consecutive in its row; `examples` is the batch that the
 * plan cuts.
 */
export function packTokens({ shape, rows }: MicroBatchPlan, examples: readonly Example[]): HostArrays {
  const packed = Array.from({ length: shape.rows }, (_, index): PackedRow => {
    const places = rows[index];
    return places
      ? fillRow(
          places.flatMap(place => examples[place]!.sequences),
          shape.length,
        )
      : emptyRow(shape.length);
  });
  return joinRows(packed, shape.length);
}

/** Where each example of a micro-batch begins in an array [rows, length]; `place` is its index in the batch. */
export function startsIn(
  { shape, rows }: MicroBatchPlan,
  examples: readonly Example[],
): { place: number; start: number }[] {
  return rows.flatMap((places, row) => {
    let next = row * shape.length;
    return places.map(place => {
      const start = next;
      next += tokensOf(examples[place]!);
      return { place, start };
    });
  });
}

function joinRows(rows: readonly PackedRow[], length: number): HostArrays {
  const join = (pick: (row: PackedRow) => Int32Array) => {
    const whole = new Int32Array(rows.length * length);
    rows.forEach((row, index) => {
      whole.set(pick(row), index * length);
    });
    return whole;
  };
  return {
    tokens: join(row => row.tokens),
    targets: join(row => row.targets),
    positions: join(row => row.positions),
    segments: join(row => row.segments),
  };
}

export interface DropoutPlace {
  readonly seed: number;
  readonly step: number;
  /** Index of the micro-batch in its step. */
  readonly index: number;
}

/** A mask for the input of every adapted layer; none without dropout. */
export function dropoutMasks(
  { tuning, objective }: Pick<TrainedModel, 'tuning' | 'objective'>,
  shape: MicroBatchShape,
  { seed, step, index }: DropoutPlace,
): HostArrays {
  if (tuning.kind === 'full' || tuning.dropout === 0) return {};
  return Object.fromEntries(
    tuning.layers.map((layer, layerIndex) => {
      const [rows, length, inFeatures] = readShape(objective, shape, layer);
      const mask = new Uint8Array(rows * length * inFeatures);
      const at = [step, index, layerIndex] as const;
      return [KEPT + layer.name, fillKept(mask, tuning.dropout, { seed, purpose: 'dropout', at })];
    }),
  );
}
