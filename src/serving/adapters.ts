// Adapters of one base model in memory: loaded on demand, evicted least recently used first at a byte limit.
import { type Adapter, readAdapter } from '../formats/peft.ts';
import { ModelError } from '../models/model-error.ts';
import type { Model } from '../models/registry.ts';
import { type LoadedAdapter, MAX_RANK } from './adapter-stack.ts';
import { openPool, type Pool } from './pool.ts';

/** Loads a PEFT folder. Throws ModelError if a tensor in it would not be applied. */
export async function loadAdapter(model: Model, id: string, directory: string): Promise<LoadedAdapter> {
  return toLoaded(id, await readAdapter(directory, model.linearLayers));
}

export function toLoaded(id: string, { rank, scale, layers }: Adapter): LoadedAdapter {
  if (rank > MAX_RANK) throw new ModelError(`adapter ${id}: rank ${rank}; at most ${MAX_RANK} is supported`);
  const scaled = Object.entries(layers).map(
    ([name, { a, b }]) => [name, { a, b: b.map(x => x * scale) }] as const,
  );
  const broken = scaled.find(([, { a, b }]) => !(a.every(Number.isFinite) && b.every(Number.isFinite)));
  // A decoding step multiplies every row with all adapters and zeroes the others': a NaN would spread to their rows.
  if (broken) throw new ModelError(`adapter ${id}: ${broken[0]} has values that are not finite`);
  const bytes = scaled.reduce((sum, [, { a, b }]) => sum + a.byteLength + b.byteLength, 0);
  return { id, rank, bytes, layers: Object.fromEntries(scaled) };
}

export type AdapterPool = Pool<LoadedAdapter>;

export const openAdapterPool = (model: Model, limitBytes: number): AdapterPool =>
  openPool({
    read: (id, directory) => loadAdapter(model, id, directory),
    bytesOf: ({ bytes }) => bytes,
    limitBytes,
  });
