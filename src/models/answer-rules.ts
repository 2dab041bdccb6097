// What a folder says of the tokens of an encoder-decoder's answers, whoever samples them. How many there are, and how they are
// searched for, is the request's to say.
import type { ConfigJson } from './config-fields.ts';
import { ModelError } from './model-error.ts';
import type { Model } from './registry.ts';

export interface AnswerRules {
  /** What an answer begins with; it is no part of the answer. */
  readonly start: number;
  /** The first token of every answer: BART's BOS, the language of a many-to-many translation. Null: any. */
  readonly first: number | null;
  /** Tokens that no answer has: Marian's padding, which it was trained with as the start. */
  readonly never: readonly number[];
}

/** transformers' names. Throws ModelError when nothing says how an answer begins. */
export function answerRules({
  config,
  generationConfig,
}: Pick<Model, 'config' | 'generationConfig'>): AnswerRules {
  const read = (name: string): unknown => generationConfig[name] ?? config[name];
  const start = read('decoder_start_token_id') ?? read('bos_token_id');
  if (typeof start !== 'number') throw new ModelError('config.json lacks decoder_start_token_id');
  const first = read('forced_bos_token_id');
  return {
    start,
    first: typeof first === 'number' ? first : null,
    never: singleTokens(read('bad_words_ids')),
  };
}

/** Of `bad_words_ids` those that are one token; longer ones would need a memory of what was written. */
function singleTokens(words: ConfigJson[string]): number[] {
  if (!Array.isArray(words)) return [];
  return words.filter(word => Array.isArray(word) && word.length === 1).flat();
}

/** Makes the tokens that may not come next impossible, in place; `written` counts those of the answer. */
export function applyRules({ first, never }: AnswerRules, written: number, logits: Float32Array): void {
  const forced = written === 0 ? first : null;
  if (forced !== null) {
    const kept = logits[forced]!;
    logits.fill(-Infinity);
    logits[forced] = kept;
  }
  for (const token of never) logits[token] = -Infinity;
}
