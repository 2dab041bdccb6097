// LRU cache of items loaded from folders on demand, with a byte limit. Generic over the items.

export interface Pool<Item> {
  /** Concurrent calls for one id share a read. A failed read is retried by the next call. */
  get(id: string, directory: string): Promise<Item>;
  /** Ids in memory, least recently used first. */
  loaded(): string[];
}

export interface PoolOptions<Item> {
  read(id: string, directory: string): Promise<Item>;
  bytesOf(item: Item): number;
  readonly limitBytes: number;
}

/** Eviction only drops the pool's reference: items in use stay in memory beyond the limit. */
export function openPool<Item>({ read, bytesOf, limitBytes }: PoolOptions<Item>): Pool<Item> {
  const items = new Map<string, Promise<Item>>();
  const sizes = new Map<string, number>();
  const drop = (id: string): void => {
    items.delete(id);
    sizes.delete(id);
  };
  const evict = (kept: string): void => {
    let total = [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
    for (const id of items.keys()) {
      if (total <= limitBytes) return;
      if (id === kept || !sizes.has(id)) continue;
      total -= sizes.get(id)!;
      drop(id);
    }
  };
  const load = async (id: string, directory: string): Promise<Item> => {
    try {
      const item = await read(id, directory);
      sizes.set(id, bytesOf(item));
      evict(id);
      return item;
    } catch (error) {
      drop(id);
      throw error;
    }
  };
  return {
    get(id, directory) {
      const found = items.get(id) ?? load(id, directory);
      // Reinserted, so that the Map's order is the order of use.
      items.delete(id);
      items.set(id, found);
      return found;
    },
    loaded: () =>
      [...sizes.keys()].sort((a, b) => [...items.keys()].indexOf(a) - [...items.keys()].indexOf(b)),
  };
}
