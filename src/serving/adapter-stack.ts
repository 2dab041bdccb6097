// Puts the adapters of a batch side by side, as a step's program takes them. It loads none and knows no requests.
import type { HostArrays } from '../engine/program.ts';
import type { Model } from '../models/registry.ts';
import type { StackShape } from './step.ts';

/** An adapter in memory. By layer name: a [rank, in], and b [out, rank] with alpha / rank in it. */
export interface LoadedAdapter {
  readonly id: string;
  readonly rank: number;
  readonly bytes: number;
  readonly layers: Readonly<Record<string, { readonly a: Float32Array; readonly b: Float32Array }>>;
}

export interface AdapterStack {
  readonly shape: StackShape;
  readonly slots: ReadonlyMap<LoadedAdapter, number>;
  /** `a.layer` and `b.layer`. */
  readonly inputs: HostArrays;
}

/** Programs are compiled for these sizes alone. */
const SLOTS = [1, 2, 4, 8, 16, 32, 64, 128];
const RANKS = [8, 16, 32, 64, 128, 256, 512];

function bucketOf(buckets: readonly number[], needed: number): number {
  const bucket = buckets.find(size => size >= needed);
  if (bucket === undefined) throw new Error(`${needed} is more than the largest bucket, ${buckets.at(-1)}`);
  return bucket;
}

export const MAX_RANK = RANKS.at(-1)!;

/** a [rank, in] is a prefix of [wider, in]; b [out, rank] widens row by row. */
function place(stack: HostArrays, shape: StackShape, slot: number, adapter: LoadedAdapter): void {
  for (const [name, { a, b }] of Object.entries(adapter.layers)) {
    const stackedA = stack[`a.${name}`] as Float32Array;
    const stackedB = stack[`b.${name}`] as Float32Array;
    stackedA.set(a, (stackedA.length / shape.slots) * slot);
    const out = b.length / adapter.rank;
    const start = out * shape.rank * slot;
    for (let row = 0; row < out; row++)
      stackedB.set(b.subarray(row * adapter.rank, (row + 1) * adapter.rank), start + row * shape.rank);
  }
}

function buildStack(model: Model, adapters: readonly LoadedAdapter[]): AdapterStack {
  const adapted = model.linearLayers.filter(({ name }) => adapters.some(({ layers }) => layers[name]));
  const slots = bucketOf(SLOTS, adapters.length);
  const rank = bucketOf(RANKS, Math.max(...adapters.map(adapter => adapter.rank)));
  const shape: StackShape = { slots, rank, layers: adapted.map(({ name }) => name) };
  const inputs: HostArrays = {};
  for (const { name, inFeatures, outFeatures } of adapted) {
    inputs[`a.${name}`] = new Float32Array(slots * rank * inFeatures);
    inputs[`b.${name}`] = new Float32Array(slots * outFeatures * rank);
  }
  adapters.forEach((adapter, slot) => {
    place(inputs, shape, slot, adapter);
  });
  return { shape, slots: new Map(adapters.map((adapter, slot) => [adapter, slot])), inputs };
}

/** A stack that holds all of `adapters`: the one at hand where it does and is not much too large; null for none. */
export function stackAdapters(
  model: Model,
  atHand: AdapterStack | null,
  adapters: ReadonlySet<LoadedAdapter>,
): AdapterStack | null {
  if (adapters.size === 0) return null;
  const fits = atHand && [...adapters].every(adapter => atHand.slots.has(adapter));
  if (fits && atHand.shape.slots <= 4 * adapters.size) return atHand;
  return buildStack(model, [...adapters]);
}

/** The inputs of a step that say which row has which adapter; null: the base model alone. */
export function stackInputs(stack: AdapterStack, rows: readonly (LoadedAdapter | null)[]): HostArrays {
  const slot = Int32Array.from(rows, adapter => (adapter ? stack.slots.get(adapter)! : 0));
  const on = Float32Array.from(rows, adapter => (adapter ? 1 : 0));
  return { ...stack.inputs, on, ...(stack.shape.slots > 1 ? { slot } : {}) };
}
