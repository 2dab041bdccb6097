// The trained heads on one model that are in memory, with the adapters under them: read on demand, the least recently used given up.
import { type OutputMeaning, readMeaning } from '../formats/classifier-config.ts';
import type { Model } from '../models/registry.ts';
import { type Classifier, type LoadedHead, loadHead, meaningOfModel } from './classifier.ts';
import { openPool } from './pool.ts';
import type { ServedModel } from './protocol.ts';

export interface HeadPool {
  /** Null for a model that writes text or makes vectors. Throws ModelError for one whose head is not whole. */
  find(served: ServedModel): Promise<{ classifier: Classifier; head: LoadedHead } | null>;
}

const bytesOf = ({ tensors, adapter }: LoadedHead): number =>
  Object.values(tensors).reduce((sum, { byteLength }) => sum + byteLength, adapter?.bytes ?? 0);

/** `saved` is the model as its folder has it; `classifier` opens it for classes and numbers. */
export function openHeadPool(
  saved: Model,
  classifier: () => Promise<Classifier>,
  limitBytes: number,
): HeadPool {
  const heads = openPool({
    // A model that was trained whole has its head in its own folder.
    read: async (id, directory) =>
      loadHead((await classifier()).model, id, directory === saved.directory ? null : directory),
    bytesOf,
    limitBytes,
  });
  const meanings = new Map<string, Promise<OutputMeaning | null>>();
  const meaningIn = (directory: string): Promise<OutputMeaning | null> => {
    const found = meanings.get(directory) ?? readMeaning(directory);
    meanings.set(directory, found);
    found.catch(() => meanings.delete(directory));
    return found;
  };
  return {
    async find(served) {
      const { id, adapterDirectory } = served;
      if (!(adapterDirectory ? await meaningIn(adapterDirectory) : meaningOfModel(saved))) return null;
      const head = await heads.get(id, adapterDirectory ?? saved.directory);
      return { classifier: await classifier(), head };
    },
  };
}
