// The adapters of one base model that are in memory: read on demand, the least recently used given up when they take too much.
import { type Adapter, readAdapter } from '../formats/peft.ts';
import { ModelError } from '../models/model-error.ts';
import type { Model } from '../models/registry.ts';
import { type LoadedAdapter, MAX_RANK } from './adapter-stack.ts';

/** From PEFT's folder. Throws ModelError where not every tensor of it would be applied. */
export async function loadAdapter(model: Model, id: string, directory: string): Promise<LoadedAdapter> {
  return toLoaded(id, await readAdapter(directory, model.linearLayers));
}

export function toLoaded(id: string, { rank, scale, layers }: Adapter): LoadedAdapter {
  if (rank > MAX_RANK) throw new ModelError(`adapter ${id}: rank ${rank}; at most ${MAX_RANK} is served`);
  const scaled = Object.entries(layers).map(
    ([name, { a, b }]) => [name, { a, b: b.map(x => x * scale) }] as const,
  );
  const bytes = scaled.reduce((sum, [, { a, b }]) => sum + a.byteLength + b.byteLength, 0);
  return { id, rank, bytes, layers: Object.fromEntries(scaled) };
}

export interface AdapterPool {
  /** Concurrent calls for one id read it once. A failed read is tried again by the next call. */
  get(id: string, directory: string): Promise<LoadedAdapter>;
  /** Ids in memory, the least recently used first. */
  loaded(): string[];
}

/** What is in use by a running batch stays in memory until that batch is done with it, beyond the limit. */
export function openAdapterPool(model: Model, limitBytes: number): AdapterPool {
  const adapters = new Map<string, Promise<LoadedAdapter>>();
  const sizes = new Map<string, number>();
  const drop = (id: string): void => {
    adapters.delete(id);
    sizes.delete(id);
  };
  const evict = (kept: string): void => {
    let total = [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
    for (const id of adapters.keys()) {
      if (total <= limitBytes) return;
      if (id === kept || !sizes.has(id)) continue;
      total -= sizes.get(id)!;
      drop(id);
    }
  };
  const load = async (id: string, directory: string): Promise<LoadedAdapter> => {
    try {
      const adapter = await loadAdapter(model, id, directory);
      sizes.set(id, adapter.bytes);
      evict(id);
      return adapter;
    } catch (error) {
      drop(id);
      throw error;
    }
  };
  return {
    get(id, directory) {
      const found = adapters.get(id) ?? load(id, directory);
      // Set anew, so that the Map's order is the order of use.
      adapters.delete(id);
      adapters.set(id, found);
      return found;
    },
    loaded: () =>
      [...sizes.keys()].sort((a, b) => [...adapters.keys()].indexOf(a) - [...adapters.keys()].indexOf(b)),
  };
}
