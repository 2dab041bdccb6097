// Trained heads of one model in memory, with their adapters: loaded on demand, evicted least recently used first.
import { type OutputMeaning, readMeaning } from '../formats/classifier-config.ts';
import type { Model } from '../models/registry.ts';
import { type Classifier, type LoadedHead, loadHead, meaningOfModel } from './classifier.ts';
import { openPool } from './pool.ts';
import type { ServedModel } from './protocol.ts';

export interface HeadPool {
  /** Null for a model without a head. Throws ModelError if the head is incomplete. */
  find(served: ServedModel): Promise<{ classifier: Classifier; head: LoadedHead } | null>;
}

const bytesOf = ({ tensors, adapter }: LoadedHead): number =>
  Object.values(tensors).reduce((sum, { byteLength }) => sum + byteLength, adapter?.bytes ?? 0);

/** `saved`: the model as stored; `classifier` opens it for classification and regression. */
export function openHeadPool(
  saved: Model,
  classifier: () => Promise<Classifier>,
  limitBytes: number,
): HeadPool {
  const heads = openPool({
    // A fully fine-tuned model has its head in its own folder.
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
