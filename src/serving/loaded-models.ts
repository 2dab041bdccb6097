// The models in the generation process: opened on demand, closed least recently used first at a memory limit.
import { loadTokenizer, type Tokenizer } from '../data/tokenizer.ts';
import type { Engine } from '../engine/program.ts';
import type { ColumnQuantization } from '../formats/quantization.ts';
import { readPooling } from '../models/pooling.ts';
import { type Model, openModel } from '../models/registry.ts';
import { type AdapterPool, openAdapterPool } from './adapters.ts';
import { type AnswerGrammars, openAnswerGrammars } from './answer-grammar.ts';
import { bytesRead, type CopyOptions, fullWeights, weightsInFewBits } from './base-weights.ts';
import { type Classifier, openClassifier } from './classifier.ts';
import { Embedder } from './embedder.ts';
import { Generator } from './generator.ts';
import { type HeadPool, openHeadPool } from './heads.ts';

export interface OpenedModel {
  readonly model: Model;
  /** Null if the model does not generate text. */
  readonly generator: Generator | null;
  /** Created by the first call. Throws ModelError for a model without embeddings. */
  embedder(): Promise<Embedder>;
  readonly heads: HeadPool;
  readonly tokenizer: Tokenizer;
  readonly grammars: AnswerGrammars;
  readonly adapters: AdapterPool;
  readonly bytes: number;
  close(): Promise<void>;
}

/** A model that generates text. */
export interface LoadedModel extends OpenedModel {
  readonly generator: Generator;
}

export interface LoadedModels {
  /** Calls `use` with the model of a folder, which is kept open meanwhile. */
  with<Result>(directory: string, use: (model: OpenedModel) => Promise<Result>): Promise<Result>;
  /** Folders, the least recently used first. */
  loaded(): string[];
  close(): Promise<void>;
}

export interface LoadedModelLimits {
  modelBytes: number;
  adapterBytes: number;
  cacheBytes: number;
  cacheDirectory: string;
  /** Of base weights for text generation; default none. */
  quantization?: 'none' | ColumnQuantization;
  /** Called before and after slow one-time work. */
  notify?(message: string, details: Readonly<Record<string, string | number>>): void;
}

interface Entry {
  readonly opening: Promise<OpenedModel>;
  /** Null until it is open. */
  model: OpenedModel | null;
  /** Requests using it; it is not closed before they end. */
  users: number;
}

export function openLoadedModels(engine: Engine, limits: LoadedModelLimits): LoadedModels {
  // Reinserted at every use, so that the Map's order is the order of use.
  const entries = new Map<string, Entry>();
  const enter = (directory: string): Entry => {
    const entry = entries.get(directory) ?? {
      opening: openLoaded(engine, directory, limits),
      model: null,
      users: 0,
    };
    entries.delete(directory);
    entries.set(directory, entry);
    entry.users += 1;
    return entry;
  };
  const opened = async (directory: string, entry: Entry): Promise<OpenedModel> => {
    try {
      entry.model = await entry.opening;
      return entry.model;
    } catch (error) {
      if (entries.get(directory) === entry) entries.delete(directory);
      throw error;
    }
  };
  const openBytes = (): number =>
    [...entries.values()].reduce((sum, { model }) => sum + (model?.bytes ?? 0), 0);
  const evict = async (): Promise<void> => {
    for (const [directory, entry] of [...entries]) {
      if (openBytes() <= limits.modelBytes) return;
      // Entries may have changed while another was being closed.
      if (!entry.model || entry.users > 0 || entries.get(directory) !== entry) continue;
      entries.delete(directory);
      await entry.model.close();
    }
  };
  return {
    async with(directory, use) {
      const entry = enter(directory);
      try {
        const model = await opened(directory, entry);
        await evict();
        return await use(model);
      } finally {
        entry.users -= 1;
      }
    },
    loaded: () => [...entries.keys()],
    async close() {
      const open = [...entries.values()];
      entries.clear();
      for (const { opening } of open) await (await opening).close();
    },
  };
}

async function openLoaded(
  engine: Engine,
  directory: string,
  limits: LoadedModelLimits,
): Promise<OpenedModel> {
  const [model, tokenizer] = [await openModel(directory), await loadTokenizer(directory)];
  const copies = { engine, cacheDirectory: limits.cacheDirectory };
  const { cacheBytes } = limits;
  const writing = model.outputWeight === null ? null : await openForWriting(model, copies, limits);
  const generator = writing && new Generator(engine, writing, { cacheBytes });
  let embedder: Promise<Embedder> | null = null;
  let classifier: Promise<Classifier> | null = null;
  // Unquantized, because embeddings are compared with stored ones, and class scores with thresholds chosen earlier.
  const openForSequences = async () =>
    openClassifier(engine, await fullWeights(await openModel(directory, 'sequence'), copies));
  const heads = openHeadPool(model, () => (classifier ??= openForSequences()), limits.adapterBytes);
  const openEmbedder = async () =>
    new Embedder(engine, await fullWeights(model, copies), await readPooling(model));
  return {
    model,
    generator,
    embedder: () => (embedder ??= openEmbedder()),
    heads,
    tokenizer,
    grammars: openAnswerGrammars(tokenizer),
    adapters: openAdapterPool(model, limits.adapterBytes),
    bytes: bytesRead(writing ?? model),
    async close() {
      await generator?.close();
      await (await embedder?.catch(() => null))?.close();
      await (await classifier?.catch(() => null))?.close();
    },
  };
}

/** The model with its weights for text generation. */
async function openForWriting(
  model: Model,
  copies: CopyOptions,
  { quantization = 'none', notify }: LoadedModelLimits,
): Promise<Model> {
  if (quantization === 'none') return fullWeights(model, copies);
  const start = performance.now();
  const details = { model: model.directory, quantization };
  notify?.('opening quantized base weights: a copy is made the first time', details);
  const opened = await weightsInFewBits(model, quantization, copies);
  const seconds = Math.round((performance.now() - start) / 100) / 10;
  notify?.('opened quantized base weights', { ...details, bytes: bytesRead(opened), seconds });
  return opened;
}
