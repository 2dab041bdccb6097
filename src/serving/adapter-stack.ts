// Puts the adapters of a batch side by side, as a step's program takes them. It loads none and knows no requests.
import { transpose } from '../engine/arrays.ts';
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
  /** `a.layer` [slots, rank, in] and `b.layer` [slots, rank, out]. */
  readonly inputs: HostArrays;
}

/** Programs are compiled for these sizes alone. */
const SLOTS = [1, 2, 4, 8, 16, 32, 64, 128];
const RANKS = [8, 16, 32, 64, 128, 256, 512];
/**
 * Several adapters of low rank get so many columns at least: they cost next to nothing, and a program that has room for one more
 * adapter need not be compiled when it comes (0.4 s for GPT-2).
 */
const LEAST_COLUMNS = 64;

function bucketOf(buckets: readonly number[], needed: number): number {
  const bucket = buckets.find(size => size >= needed);
  if (bucket === undefined) throw new Error(`${needed} is more than the largest bucket, ${buckets.at(-1)}`);
  return bucket;
}

export const MAX_RANK = RANKS.at(-1)!;

/** Narrower ranks leave zeros. */
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

/** A stack that holds all of `adapters`: the one at hand where it does and is not much too large; null for none. */
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

/** The inputs of a step that say which row has which adapter; null: the base model alone. */
export const stackInputs = (stack: AdapterStack, rows: readonly (LoadedAdapter | null)[]): HostArrays => ({
  ...stack.inputs,
  slot: Int32Array.from(rows, adapter => (adapter ? stack.slots.get(adapter)! : -1)),
});
