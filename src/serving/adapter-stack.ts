// Stacks the LoRA matrices of a batch's adapters as inputs of a step. Does not load adapters.
import { transpose } from '../engine/arrays.ts';
import type { HostArrays } from '../engine/program.ts';
import type { Model } from '../models/registry.ts';
import type { StackShape } from './step.ts';

/** An adapter in memory. By layer name: a [rank, in], and b [out, rank], scaled by alpha / rank. */
export interface LoadedAdapter {
  readonly id: string;
  readonly rank: number;
  readonly bytes: number;
  readonly layers: Readonly<Record<string, { readonly a: Float32Array; readonly b: Float32Array }>>;
}

export interface AdapterStack {
  readonly shape: StackShape;
  readonly slots: ReadonlyMap<LoadedAdapter, number>;
  /** `a.layer` [slots, rank, in] and `b.layer` [slots, rank, out]. */
  readonly inputs: HostArrays;
}

/** Bucketed, because each shape is a compiled program. */
const SLOTS = [1, 2, 4, 8, 16, 32, 64, 128];
const RANKS = [8, 16, 32, 64, 128, 256, 512];
/**
 * Minimum of slots * rank for more than one adapter: spare slots cost next to nothing and save compiling another program when
 * an adapter joins (0.4 s for GPT-2).
 */
const LEAST_COLUMNS = 64;

function bucketOf(buckets: readonly number[], needed: number): number {
  const bucket = buckets.find(size => size >= needed);
  if (bucket === undefined) throw new Error(`${needed} is more than the largest bucket, ${buckets.at(-1)}`);
  return bucket;
}

export const MAX_RANK = RANKS.at(-1)!;

/** Lower ranks are padded with zeros. */
function place(stack: HostArrays, { slots }: StackShape, slot: number, adapter: LoadedAdapter): void {
  for (const [name, { a, b }] of Object.entries(adapter.layers)) {
    const stackedA = stack[`a.${name}`] as Float32Array;
    const stackedB = stack[`b.${name}`] as Float32Array;
    stackedA.set(a, (stackedA.length / slots) * slot);
    const turned = transpose(b, [b.length / adapter.rank, adapter.rank]);
    stackedB.set(turned, (stackedB.length / slots) * slot);
  }
}

function buildStack(model: Model, adapters: readonly LoadedAdapter[]): AdapterStack {
  const adapted = model.linearLayers.filter(({ name }) => adapters.some(({ layers }) => layers[name]));
  const rank = bucketOf(RANKS, Math.max(...adapters.map(adapter => adapter.rank)));
  const least = adapters.length > 1 ? LEAST_COLUMNS / rank : 1;
  const slots = bucketOf(SLOTS, Math.max(adapters.length, least));
  const shape: StackShape = { slots, rank, layers: adapted.map(({ name }) => name) };
  const inputs: HostArrays = {};
  for (const { name, inFeatures, outFeatures } of adapted) {
    inputs[`a.${name}`] = new Float32Array(slots * rank * inFeatures);
    inputs[`b.${name}`] = new Float32Array(slots * rank * outFeatures);
  }
  adapters.forEach((adapter, slot) => {
    place(inputs, shape, slot, adapter);
  });
  return { shape, slots: new Map(adapters.map((adapter, slot) => [adapter, slot])), inputs };
}

/** A stack of all `adapters`; reuses `atHand` if it has them and is at most four times too large. Null without adapters. */
export function stackAdapters(
  model: Model,
  atHand: AdapterStack | null,
  adapters: ReadonlySet<LoadedAdapter>,
): AdapterStack | null {
  if (adapters.size === 0) return null;
  const fits = atHand && [...adapters].every(adapter => atHand.slots.has(adapter));
  if (fits && atHand.slots.size <= 4 * adapters.size) return atHand;
  return buildStack(model, [...adapters]);
}

/** Inputs of a step: the stacked matrices and the slot of each row; null: the base model alone. */
export const stackInputs = (stack: AdapterStack, rows: readonly (LoadedAdapter | null)[]): HostArrays => ({
  ...stack.inputs,
  slot: Int32Array.from(rows, adapter => (adapter ? stack.slots.get(adapter)! : -1)),
});
