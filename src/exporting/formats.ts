// Which formats a model can be exported in, and why not in others: known from its small files alone, before anything is made.
import { MEANING_FILE, meaningOfConfig } from '../formats/classifier-config.ts';
import { ModelError } from '../models/model-error.ts';
import { describeModel } from '../models/registry.ts';
import { ggufTarget } from './gguf-architectures.ts';
import { ggufMetadata } from './gguf-model.ts';
import { readTokenizerFiles } from './gguf-vocabulary.ts';

export const EXPORT_FORMATS = ['adapter', 'merged', 'gguf'] as const;
export type ExportFormat = (typeof EXPORT_FORMATS)[number];

/** What an export is checked by. `logprobs`: of tokens, each given those before it. `outputs`: a head's, before softmax. `vectors`: of length 1. */
export const COMPARED = ['logprobs', 'outputs', 'vectors'] as const;
export type Compared = (typeof COMPARED)[number];

/** A file of a folder as text; null where there is none. */
export type ReadText = (name: string) => Promise<string | null>;

export interface ExportedFiles {
  /** Of the base, or of a model that was trained whole. */
  readonly model: ReadText;
  /** Of the adapter on it; null without one. */
  readonly adapter: ReadText | null;
}

/** Each throws ModelError where the model has no such form. */
const CHECKS: Record<ExportFormat, (files: ExportedFiles) => Promise<void>> = {
  async adapter({ adapter }) {
    if (!adapter) throw new ModelError('it has no adapter: its weights are its own');
  },
  async merged() {},
  async gguf({ model, adapter }) {
    const meaning = await adapter?.(MEANING_FILE);
    if (meaning && meaningOfConfig(JSON.parse(meaning)))
      throw new ModelError('it tells classes or numbers and writes no text');
    const described = describeModel(JSON.parse((await model('config.json')) ?? '{}'));
    ggufTarget(described);
    ggufMetadata(described, await readTokenizerFiles(model));
  },
};

/** Why there is no such form; null where there is. */
export const refusalOf = (format: ExportFormat, files: ExportedFiles): Promise<string | null> =>
  CHECKS[format](files).then(
    () => null,
    error => {
      if (error instanceof ModelError) return error.message;
      throw error;
    },
  );
