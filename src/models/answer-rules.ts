// What a model folder says about the tokens of an encoder-decoder's answers, regardless of how they are sampled.
// Lengths and search are set by the request.
import type { ConfigJson } from './config-fields.ts';
import { ModelError } from './model-error.ts';
import type { Model } from './registry.ts';

export interface AnswerRules {
  /** The token that starts decoding; it is not part of the answer. */
  readonly start: number;
  /** The forced first token: BART's BOS, or the target language of a many-to-many translation model. Null: any. */
  readonly first: number | null;
  /** Tokens that are never generated: Marian's padding, which it was trained with as the start token. */
  readonly never: readonly number[];
}

/** Reads transformers' fields. Throws ModelError when no start token is given. */
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

/** The single-token entries of `bad_words_ids`; longer ones would need the history of the answer. */
function singleTokens(words: ConfigJson[string]): number[] {
  if (!Array.isArray(words)) return [];
  return words.filter(word => Array.isArray(word) && word.length === 1).flat();
}

/**
 * Sets the logits of forbidden tokens to -Infinity, in place; `written` is the number of tokens of the answer so far.
 */
export function applyRules({ first, never }: AnswerRules, written: number, logits: Float32Array): void {
  const forced = written === 0 ? first : null;
  if (forced !== null) {
    const kept = logits[forced]!;
    logits.fill(-Infinity);
    logits[forced] = kept;
  }
  for (const token of never) logits[token] = -Infinity;
}
