// The adapters of one base model that are in memory: read on demand, the least recently used given up when they take too much.
import { type Adapter, readAdapter } from '../formats/peft.ts';
import { ModelError } from '../models/model-error.ts';
import type { Model } from '../models/registry.ts';
import { type LoadedAdapter, MAX_RANK } from './adapter-stack.ts';
import { openPool, type Pool } from './pool.ts';

/** From PEFT's folder. Throws ModelError where not every tensor of it would be applied. */
export async function loadAdapter(model: Model, id: string, directory: string): Promise<LoadedAdapter> {
  return toLoaded(id, await readAdapter(directory, model.linearLayers));
}

export function toLoaded(id: string, { rank, scale, layers }: Adapter): LoadedAdapter {
  if (rank > MAX_RANK) throw new ModelError(`adapter ${id}: rank ${rank}; at most ${MAX_RANK} is supported`);
  const scaled = Object.entries(layers).map(
    ([name, { a, b }]) => [name, { a, b: b.map(x => x * scale) }] as const,
  );
  const broken = scaled.find(([, { a, b }]) => !(a.every(Number.isFinite) && b.every(Number.isFinite)));
  // New tokens are multiplied with all adapters of a batch: a NaN would reach the rows of others.
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
