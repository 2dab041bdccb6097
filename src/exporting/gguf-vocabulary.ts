// Converts a tokenizer to GGUF: tokens, their types, merges, the pre-tokenizer, and special token ids. Refuses
// tokenizers that llama.cpp would apply differently.
import type { GgufValue } from '../formats/gguf.ts';
import type { ConfigJson } from '../models/config-fields.ts';
import { ModelError } from '../models/model-error.ts';

interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
}

/** The fields read of normalizers, pre-tokenizers and post-processors. */
interface Step {
  readonly type: string;
  readonly pattern?: { readonly Regex?: string };
  readonly normalizers?: readonly Step[];
  readonly pretokenizers?: readonly Step[];
  readonly processors?: readonly Step[];
  readonly use_regex?: boolean;
  readonly add_prefix_space?: boolean;
  readonly prepend_scheme?: string;
  readonly individual_digits?: boolean;
  readonly behavior?: string;
  readonly single?: readonly { readonly SpecialToken?: { readonly id: string } }[];
}

interface TokenizerJson {
  readonly model: {
    readonly type: string;
    readonly vocab: Readonly<Record<string, number>>;
    readonly merges: readonly (string | readonly [string, string])[];
    readonly byte_fallback?: boolean;
  };
  readonly normalizer: Step | null;
  readonly pre_tokenizer: Step | null;
  readonly post_processor: Step | null;
  readonly added_tokens: readonly AddedToken[];
}

export interface TokenizerFiles {
  readonly tokenizer: TokenizerJson;
  /** `tokenizer_config.json`; empty without one. */
  readonly config: ConfigJson;
  /** The chat template; null without one. */
  readonly template: string | null;
}

/** `read` returns a file of the model's folder as text, or null. Throws ModelError without a tokenizer.json. */
export async function readTokenizerFiles(
  read: (name: string) => Promise<string | null>,
): Promise<TokenizerFiles> {
  const tokenizer = await read('tokenizer.json');
  if (tokenizer === null) throw new ModelError('gguf needs a tokenizer.json');
  const config = JSON.parse((await read('tokenizer_config.json')) ?? '{}') as ConfigJson;
  const own = typeof config.chat_template === 'string' ? config.chat_template : null;
  return { tokenizer: JSON.parse(tokenizer), config, template: (await read('chat_template.jinja')) ?? own };
}

const stepsOf = (step: Step | null): readonly Step[] => {
  if (step === null) return [];
  const inner = step.normalizers ?? step.pretokenizers ?? step.processors;
  return inner?.flatMap(stepsOf) ?? [step];
};

const WORDS = 'words';
const BYTES = 'bytes';

/** Describes a pre-tokenizer in a word, or by its regular expression. */
const SPLITTERS: Readonly<Record<string, (step: Step) => string>> = {
  ByteLevel: ({ use_regex: words, add_prefix_space: space }) =>
    `${words === false ? BYTES : WORDS}${space ? ' after a space' : ''}`,
  Digits: ({ individual_digits: single }) => (single ? 'digits' : 'numbers'),
  Punctuation: ({ behavior }) => `punctuation ${behavior}`,
  Split: ({ pattern }) => String(pattern?.Regex),
};

const LLAMA_3 =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** llama.cpp's names of pre-tokenizers, by the steps' descriptions. */
const SPLITS: Readonly<Record<string, string>> = {
  [WORDS]: 'gpt-2',
  [['digits', WORDS].join()]: 'command-r',
  [['punctuation Contiguous', WORDS, 'numbers', '[0-9][0-9][0-9]'].join()]: 'falcon',
  [[LLAMA_3, BYTES].join()]: 'llama-bpe',
  [[LLAMA_3.replace('\\p{N}{1,3}', '\\p{N}'), BYTES].join()]: 'qwen2',
};

/** Throws ModelError for a pre-tokenizer unknown to llama.cpp. */
function splitName({ pre_tokenizer: given, normalizer }: TokenizerJson): string {
  const steps = stepsOf(given).map(step => SPLITTERS[step.type]?.(step) ?? step.type);
  const name = SPLITS[steps.join()];
  // NFC is ignored: text that is not composed is rare, and llama.cpp does not normalize.
  const changes = stepsOf(normalizer).find(({ type }) => type !== 'NFC');
  if (name && !changes) return name;
  throw new ModelError(
    `the tokenizer ${changes ? `changes texts (${changes.type})` : 'splits texts'} in a way that the gguf export does not know`,
  );
}

const KINDS = { normal: 1, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;
const BYTE_TOKEN = /^<0x[0-9A-F]{2}>$/;

/** A token for every row of the embedding; surplus rows are padding. */
function tokensOf({ model, added_tokens: added }: TokenizerJson, size: number) {
  const tokens = Array.from({ length: size }, (_, id) => `[PAD${id}]`);
  const kinds = new Array<number>(size).fill(KINDS.unused);
  const set = (id: number, token: string, kind: number): void => {
    if (id >= size) return;
    tokens[id] = token;
    kinds[id] = kind;
  };
  for (const [token, id] of Object.entries(model.vocab))
    set(id, token, model.byte_fallback && BYTE_TOKEN.test(token) ? KINDS.byte : KINDS.normal);
  for (const { id, content, special } of added) set(id, content, special ? KINDS.control : KINDS.userDefined);
  return { tokens, kinds };
}

/** SentencePiece merges by score: the earlier the merge that makes a token, the higher. */
function scoresOf(tokens: readonly string[], merges: TokenizerJson['model']['merges']): number[] {
  const ranks = new Map<string, number>();
  for (const [rank, merge] of merges.entries()) {
    const made = typeof merge === 'string' ? merge.replace(' ', '') : merge.join('');
    if (!ranks.has(made)) ranks.set(made, rank);
  }
  return tokens.map(token => -(ranks.get(token) ?? merges.length));
}

/** Whether a space is put before texts, as SentencePiece tokenizers in tokenizer.json say it in several ways. */
function spaceBefore({ normalizer, pre_tokenizer: splitter }: TokenizerJson): boolean {
  const known = ['Prepend', 'Replace'];
  const [changes, splits] = [stepsOf(normalizer), stepsOf(splitter)];
  const metaspace = splits.find(({ type }) => type === 'Metaspace');
  const other = changes.find(({ type }) => !known.includes(type));
  if (other || (!metaspace && !changes.some(({ type }) => type === 'Replace')))
    throw new ModelError('the tokenizer changes texts in a way that the gguf export does not know');
  const scheme = metaspace && (metaspace.prepend_scheme ?? (metaspace.add_prefix_space ? 'always' : 'never'));
  return changes.some(({ type }) => type === 'Prepend') || (scheme !== undefined && scheme !== 'never');
}

/** GGUF's names for the special tokens that tokenizer_config.json names. */
const SPECIAL = { bos: 'bos', eos: 'eos', padding: 'pad', unknown: 'unk' } as const;

function specialTokens({ tokenizer, config, template }: TokenizerFiles): Record<string, GgufValue> {
  const ids = new Map(tokenizer.added_tokens.map(({ content, id }) => [content, id]));
  const textOf = (name: string): string | undefined => {
    const given = config[`${name}_token`] as string | { content: string } | null | undefined;
    return typeof given === 'object' ? given?.content : given;
  };
  const named = Object.entries(SPECIAL).flatMap(([key, name]) => {
    const text = textOf(name);
    const id = text === undefined ? undefined : (ids.get(text) ?? tokenizer.model.vocab[text]);
    return id === undefined ? [] : [[`tokenizer.ggml.${key}_token_id`, { u32: id }] as const];
  });
  const around = stepsOf(tokenizer.post_processor).find(({ type }) => type === 'TemplateProcessing')?.single;
  const adds = (name: 'bos' | 'eos', place: number): GgufValue => {
    const said = config[`add_${name}_token`];
    const put = around?.at(place)?.SpecialToken?.id;
    return { bool: typeof said === 'boolean' ? said : put !== undefined && put === textOf(name) };
  };
  return {
    ...Object.fromEntries(named),
    'tokenizer.ggml.add_bos_token': adds('bos', 0),
    'tokenizer.ggml.add_eos_token': adds('eos', -1),
    ...(template !== null && { 'tokenizer.chat_template': { string: template } }),
  };
}

/**
 * Throws ModelError unless the tokenizer is byte-level BPE or BPE with byte fallback. `size`: rows of the embedding.
 */
export function vocabularyMetadata(files: TokenizerFiles, size: number): Record<string, GgufValue> {
  const { tokenizer } = files;
  const { model } = tokenizer;
  if (model.type !== 'BPE') throw new ModelError(`the gguf export takes BPE tokenizers, not ${model.type}`);
  const { tokens, kinds } = tokensOf(tokenizer, size);
  const common = {
    'tokenizer.ggml.tokens': { strings: tokens },
    'tokenizer.ggml.token_type': { i32s: kinds },
    ...specialTokens(files),
  };
  if (model.byte_fallback)
    return {
      'tokenizer.ggml.model': { string: 'llama' },
      'tokenizer.ggml.pre': { string: 'default' },
      'tokenizer.ggml.add_space_prefix': { bool: spaceBefore(tokenizer) },
      ...common,
      'tokenizer.ggml.scores': { f32s: scoresOf(tokens, model.merges) },
    };
  const merges = model.merges.map(merge => (typeof merge === 'string' ? merge : merge.join(' ')));
  return {
    'tokenizer.ggml.model': { string: 'gpt2' },
    'tokenizer.ggml.pre': { string: splitName(tokenizer) },
    ...common,
    'tokenizer.ggml.merges': { strings: merges },
  };
}
