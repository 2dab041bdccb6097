// The trained heads on one model that are in memory, with the adapters under them: read on demand, the least recently used given up.
import { type OutputMeaning, readMeaning } from '../formats/classifier-config.ts';
import type { Model } from '../models/registry.ts';
import { type Classifier, type LoadedHead, loadHead, meaningOfModel } from './classifier.ts';
import type { ServedModel } from './protocol.ts';

export interface HeadPool {
  /** Null for a model that writes text or makes vectors. Throws ModelError for one whose head is not whole. */
  find(served: ServedModel): Promise<{ classifier: Classifier; head: LoadedHead } | null>;
}

const bytesOf = ({ tensors, adapter }: LoadedHead): number =>
  Object.values(tensors).reduce((sum, { byteLength }) => sum + byteLength, adapter?.bytes ?? 0);

/** `saved` is the model as its folder has it; `classifier` opens it for classes and numbers. What is in use stays beyond the limit. */
export function openHeadPool(
  saved: Model,
  classifier: () => Promise<Classifier>,
  limitBytes: number,
): HeadPool {
  // Set anew with every use, so that the Map's order is the order of use.
  const heads = new Map<string, Promise<LoadedHead>>();
  const sizes = new Map<string, number>();
  const evict = (kept: string): void => {
    for (const id of [...heads.keys()]) {
      const total = [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
      if (total <= limitBytes) return;
      if (id !== kept && sizes.delete(id)) heads.delete(id);
    }
  };
  const load = async ({ id, adapterDirectory }: ServedModel): Promise<LoadedHead> => {
    try {
      const head = await loadHead((await classifier()).model, id, adapterDirectory);
      sizes.set(id, bytesOf(head));
      evict(id);
      return head;
    } catch (error) {
      heads.delete(id);
      throw error;
    }
  };
  const meanings = new Map<string, Promise<OutputMeaning | null>>();
  const meaningIn = (directory: string): Promise<OutputMeaning | null> => {
    const found = meanings.get(directory) ?? readMeaning(directory);
    meanings.set(directory, found);
    return found;
  };
  return {
    async find(served) {
      const { id, adapterDirectory } = served;
      if (!(adapterDirectory ? await meaningIn(adapterDirectory) : meaningOfModel(saved))) return null;
      const found = heads.get(id) ?? load(served);
      heads.delete(id);
      heads.set(id, found);
      return { classifier: await classifier(), head: await found };
    },
  };
}
