// Which formats a model can be exported in, and why not in others, determined from its small files alone.
import { MEANING_FILE, meaningOfConfig } from '../formats/classifier-config.ts';
import { ModelError } from '../models/model-error.ts';
import { describeModel } from '../models/registry.ts';
import { ggufTarget } from './gguf-architectures.ts';
import { ggufMetadata } from './gguf-model.ts';
import { readTokenizerFiles } from './gguf-vocabulary.ts';

export const EXPORT_FORMATS = ['adapter', 'merged', 'gguf'] as const;
export type ExportFormat = (typeof EXPORT_FORMATS)[number];

/**
 * What an export is verified by. `logprobs`: of tokens, given those before. `outputs`: a head's, before softmax.
 * `vectors`: normalized embeddings.
 */
export const COMPARED = ['logprobs', 'outputs', 'vectors'] as const;
export type Compared = (typeof COMPARED)[number];

/** Reads a file of a folder as text; null if there is none. */
export type ReadText = (name: string) => Promise<string | null>;

export interface ExportedFiles {
  /** The base model's folder, or that of a fully fine-tuned model. */
  readonly model: ReadText;
  /** The adapter's folder; null without one. */
  readonly adapter: ReadText | null;
}

/** Each throws ModelError when the model cannot have that format. */
const CHECKS: Record<ExportFormat, (files: ExportedFiles) => Promise<void>> = {
  async adapter({ adapter }) {
    if (!adapter) throw new ModelError('it has no adapter: its weights are its own');
  },
  async merged() {},
  async gguf({ model, adapter }) {
    const meaning = await adapter?.(MEANING_FILE);
    if (meaning && meaningOfConfig(JSON.parse(meaning)))
      throw new ModelError('it has a classification or regression head and generates no text');
    const described = describeModel(JSON.parse((await model('config.json')) ?? '{}'));
    ggufTarget(described);
    ggufMetadata(described, await readTokenizerFiles(model));
  },
};

/** Why the format is not available; null if it is. */
export const refusalOf = (format: ExportFormat, files: ExportedFiles): Promise<string | null> =>
  CHECKS[format](files).then(
    () => null,
    error => {
      if (error instanceof ModelError) return error.message;
      throw error;
    },
  );
