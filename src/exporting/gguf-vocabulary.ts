// A tokenizer.json in the words of GGUF: tokens, their kinds, merges, and by which rule texts are split before merging. Only what
// llama.cpp would take apart in the same way; the rest is refused.
import type { GgufValue } from '../formats/gguf.ts';
import { ModelError } from '../models/model-error.ts';

interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
}

interface Step {
  readonly type: string;
  readonly pattern?: { readonly Regex?: string };
  readonly pretokenizers?: readonly Step[];
  readonly decoders?: readonly Step[];
  readonly use_regex?: boolean;
}

export interface TokenizerJson {
  readonly model: {
    readonly type: string;
    readonly vocab: Readonly<Record<string, number>>;
    readonly merges: readonly (string | readonly [string, string])[];
    readonly byte_fallback?: boolean;
  };
  readonly pre_tokenizer: Step | null;
  readonly added_tokens: readonly AddedToken[];
}

/** llama.cpp's names for the regular expressions that split texts. */
const SPLITS: Readonly<Record<string, string>> = {
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+":
    'llama-bpe',
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+":
    'qwen2',
};
const KINDS = { normal: 1, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;
const BYTE_TOKEN = /^<0x[0-9A-F]{2}>$/;

const stepsOf = (step: Step | null): readonly Step[] =>
  step === null ? [] : (step.pretokenizers?.flatMap(stepsOf) ?? [step]);

/** Throws ModelError for one that llama.cpp has no name for. */
function splitName({ pre_tokenizer: given }: TokenizerJson): string {
  const steps = stepsOf(given);
  const regexes = steps.flatMap(({ pattern }) => pattern?.Regex ?? []);
  const byteLevel = steps.find(({ type }) => type === 'ByteLevel');
  const name = regexes.length === 0 && byteLevel?.use_regex !== false ? 'gpt-2' : SPLITS[regexes.join()];
  if (byteLevel && name) return name;
  throw new ModelError('the tokenizer splits texts in a way that the gguf export does not know');
}

/** A token for every row of the embedding; rows beyond the vocabulary are there for the sake of round numbers. */
function tokensOf({ model, added_tokens: added }: TokenizerJson, size: number) {
  const tokens = Array.from({ length: size }, (_, id) => `[PAD${id}]`);
  const kinds = new Array<number>(size).fill(KINDS.unused);
  for (const [token, id] of Object.entries(model.vocab)) {
    tokens[id] = token;
    kinds[id] = model.byte_fallback && BYTE_TOKEN.test(token) ? KINDS.byte : KINDS.normal;
  }
  for (const { id, content, special } of added) {
    tokens[id] = content;
    kinds[id] = special ? KINDS.control : KINDS.userDefined;
  }
  return { tokens, kinds };
}

/** Throws ModelError for what is neither byte-level BPE nor BPE with byte fallback. */
export function vocabularyMetadata(tokenizer: TokenizerJson, size: number): Record<string, GgufValue> {
  const { model } = tokenizer;
  if (model.type !== 'BPE') throw new ModelError(`the gguf export takes BPE tokenizers, not ${model.type}`);
  const { tokens, kinds } = tokensOf(tokenizer, size);
  const common = {
    'tokenizer.ggml.tokens': { strings: tokens },
    'tokenizer.ggml.token_type': { i32s: kinds },
  };
  // Pieces of SentencePiece are merged by score; those of a BPE were numbered in the order of their merges.
  if (model.byte_fallback)
    return {
      'tokenizer.ggml.model': { string: 'llama' },
      ...common,
      'tokenizer.ggml.scores': { f32s: tokens.map((_, id) => -id) },
    };
  const merges = model.merges.map(merge => (typeof merge === 'string' ? merge : merge.join(' ')));
  return {
    'tokenizer.ggml.model': { string: 'gpt2' },
    'tokenizer.ggml.pre': { string: splitName(tokenizer) },
    ...common,
    'tokenizer.ggml.merges': { strings: merges },
  };
}
