// A model's tokenizer and chat template, loaded from its Hugging Face folder: encodes and decodes conversations and texts. Loss masks
// are built in examples.ts.
//
// Special tokens in user text (`<|im_end|>` in a message or a prompt) are encoded as plain text; only the chat template itself can write
// control tokens. Added tokens that are not special (`<think>`, `<tool_call>`) are encoded as tokens everywhere.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { type ChatTemplate, loadChatTemplate, type RenderOptions } from './chat-template.ts';
import type { Message, Tool } from './conversation.ts';
import { inertText } from './inert-text.ts';
import { MARIAN_NAMES, type MarianFiles, readMarianFiles } from './marian-files.ts';
import { plainTextEncoder } from './plain-text.ts';
import { type EncodedParts, encodeSections, sectionCutter, sectionSplitter } from './sections.ts';
import { decodeTokens, type StreamDecoder, streamDecoder, tokenBytes } from './token-bytes.ts';

export interface DecodeOptions {
  /** Includes special tokens; they are skipped by default. */
  special?: boolean;
}

export interface Tokenizer {
  /** sha256 of everything that affects encoding: tokenizer, its config, chat template, generation config. */
  readonly identity: string;
  /** Highest id + 1. The embedding matrix may have more rows. */
  readonly vocabSize: number;
  readonly bosId: number | null;
  /** End token of plain text. */
  readonly eosId: number | null;
  readonly padId: number | null;
  /** End token of assistant messages in the chat template; null if it has none. */
  readonly endOfTurnId: number | null;
  /** All tokens that stop generation: those of generation_config, EOS and end of turn. */
  readonly eosIds: readonly number[];
  /** Whether the tokenizer itself prepends BOS. */
  readonly addsBos: boolean;
  /** Adds no tokens. Special tokens in the text are encoded as plain text. */
  encode(text: string): number[];
  /** Encodes a text to be continued: with BOS if the tokenizer adds it, without end tokens. */
  encodePrompt(text: string): number[];
  /** Encodes a complete text, with all special tokens that the tokenizer adds (`[CLS]`, `[SEP]`, `</s>`). */
  encodeWhole(text: string): number[];
  /** Tokens that `encodeWhole` adds before and after a text. */
  readonly around: { readonly before: readonly number[]; readonly after: readonly number[] };
  decode(ids: Iterable<number>, options?: DecodeOptions): string;
  streamDecoder(options?: DecodeOptions): StreamDecoder;
  tokenBytes(id: number): Uint8Array;
  isSpecial(id: number): boolean;
  /** Id of an added token (`<tool_call>`); null if the text is not one. */
  addedToken(text: string): number | null;
  /** Sources of the model's chat templates. */
  readonly chatTemplates: readonly string[];
  /**
   * Special tokens in user text are marked in the result: pass it to `encodeRendered`, or to `displayText` before showing it. Throws
   * TemplateError.
   */
  renderChat(messages: readonly Message[], tools?: readonly Tool[] | null, options?: RenderOptions): string;
  displayText(rendered: string): string;
  /** Encodes rendered text, with exactly one BOS if the model has one. */
  encodeRendered(rendered: string): number[];
  /** `encodeRendered(renderChat(...))`: the prompt of a chat request if `addGenerationPrompt` is set. */
  encodeChat(messages: readonly Message[], tools?: readonly Tool[] | null, options?: RenderOptions): number[];
  /** `encodeRendered` with the token index of each offset (ascending). Tokens before a cut are those of the text before it. */
  encodeCut(rendered: string, offsets: readonly number[]): EncodedParts;
  /** `encodeCut` for plain text without control tokens; BOS as in `encodePrompt`. */
  encodePlainCut(text: string, offsets: readonly number[]): EncodedParts;
}

export async function loadTokenizer(modelDirectory: string): Promise<Tokenizer> {
  const files = await readTokenizerFiles(modelDirectory);
  const names = specialTokenNames(files.config);
  const template = await loadChatTemplate(modelDirectory, files.config, names);
  const { tokenizer, config, generation, languages } = files;
  const identity = hash([
    tokenizer,
    config,
    generation,
    template.sources,
    'v2',
    ...(languages ? [languages.source, [...languages.ids]] : []),
  ]);
  const parts = { names, template, identity };
  const answers = buildTokenizer({ ...parts, files, library: openLibrary(files) });
  if (!languages) return answers;
  const read = { ...files, tokenizer: languages.source };
  const { encodeWhole } = buildTokenizer({ ...parts, files: read, library: openLibrary(read) });
  return { ...answers, encodeWhole };
}

/** If pieces have separate ids, maps ids back to pieces for decoding. */
function openLibrary({ tokenizer, config, languages }: TokenizerFiles): HuggingFaceTokenizer {
  const library = new HuggingFaceTokenizer(tokenizer, config);
  if (languages) {
    const pieces: string[] = [];
    for (const [piece, id] of languages.ids) pieces[id] = piece;
    library.model!.vocab = pieces;
  }
  return library;
}

interface TokenizerFiles {
  tokenizer: Record<string, unknown>;
  config: Record<string, unknown>;
  generation: Record<string, unknown>;
  /** Marian only: the tokenizer of the source language, while `tokenizer` is that of the target language. */
  languages: Pick<MarianFiles, 'source' | 'ids'> | null;
}

const NO_TOKENIZER =
  'transformers makes one where it can: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)';

async function readTokenizerFiles(modelDirectory: string): Promise<TokenizerFiles> {
  const read = (name: string) => readJson(join(modelDirectory, name));
  const whole = await read('tokenizer.json');
  const languages = whole ? null : await readMarianFiles(modelDirectory);
  const tokenizer = whole ?? languages?.target;
  if (!tokenizer) throw new Error(`No tokenizer.json in ${modelDirectory}; ${NO_TOKENIZER}`);
  const config = {
    ...(languages && MARIAN_NAMES),
    ...(await read('special_tokens_map.json')),
    ...(await read('tokenizer_config.json')),
  };
  const model = (await read('config.json')) ?? {};
  const generation = { eos_token_id: model.eos_token_id, ...(await read('generation_config.json')) };
  return { tokenizer, config, generation, languages };
}

async function readJson(path: string): Promise<Record<string, unknown> | null> {
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new Error(`Cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
}

const SPECIAL_NAMES = [
  'bos_token',
  'eos_token',
  'unk_token',
  'sep_token',
  'pad_token',
  'cls_token',
  'mask_token',
];

function specialTokenNames(config: Record<string, unknown>): Record<string, string> {
  const entries = SPECIAL_NAMES.flatMap(name => {
    const value = config[name];
    const text =
      typeof value === 'string' ? value : (value as { content?: unknown } | null | undefined)?.content;
    return typeof text === 'string' ? [[name, text] as const] : [];
  });
  return Object.fromEntries(entries);
}

function hash(parts: readonly unknown[]): string {
  const digest = createHash('sha256');
  for (const part of parts) digest.update(JSON.stringify(part)).update('\0');
  return digest.digest('hex');
}

interface Parts {
  library: HuggingFaceTokenizer;
  files: TokenizerFiles;
  names: Record<string, string>;
  template: ChatTemplate;
  identity: string;
}

function buildTokenizer({ library, files, names, template, identity }: Parts): Tokenizer {
  const added = [...library.get_added_tokens_decoder().values()];
  const idOf = (text: string | undefined): number | null =>
    text === undefined ? null : (library.token_to_id(text) ?? null);
  const [bosId, eosId, padId] = [idOf(names.bos_token), idOf(names.eos_token), idOf(names.pad_token)];
  const special = new Set(added.filter(token => token.special).map(token => token.id));
  for (const id of [bosId, eosId, padId]) if (id !== null) special.add(id);

  const vocabulary = tokenBytes(library, files.tokenizer.decoder);
  const inert = inertText([...special].map(id => library.id_to_token(id)!));
  const ids = files.languages && {
    ids: files.languages.ids,
    unknownId: files.languages.ids.get(MARIAN_NAMES.unk_token)!,
  };
  const encodePlain = plainTextEncoder(library, files.tokenizer, special, ids);
  const addsSpace = Buffer.concat(encodePlain('a', 0).map(vocabulary.bytes)).toString() !== 'a';
  const around = tokensAround(library);
  const addsBos = bosId !== null && tokenizerAddsBos(library, files.config, bosId);
  const bos = addsBos ? bosId : null;

  const splitRendered = sectionSplitter(added);
  const cutRendered = sectionCutter((text, section) => encodePlain(inert.restore(text), section), addsSpace);
  const encodeCut: Tokenizer['encodeCut'] = (rendered, offsets) =>
    withBos(encodeSections(splitRendered(rendered), offsets, cutRendered), bos);
  const splitPlain = sectionSplitter(added.filter(token => !special.has(token.id)));
  const cutPlain = sectionCutter(encodePlain, addsSpace);
  const encodePlainCut: Tokenizer['encodePlainCut'] = (text, offsets) =>
    withBos(encodeSections(splitPlain(text), offsets, cutPlain), bos);
  const renderChat: Tokenizer['renderChat'] = (messages, tools = null, options = {}) =>
    template.render(inert.protectAll(template.prepare(messages)), inert.protectAll(tools), options);
  const encodeRendered = (rendered: string) => encodeCut(rendered, []).ids;
  const encode = (text: string) => encodeSections(splitPlain(text), [], cutPlain).ids;

  const endOfTurnId = findEndOfTurn(renderChat, encodeRendered, special);
  const eosIds = [...new Set([files.generation.eos_token_id, eosId, endOfTurnId].flat().filter(isId))];
  return {
    identity,
    vocabSize: library.model!.vocab.length,
    bosId,
    eosId: eosId ?? eosIds[0] ?? null,
    padId,
    endOfTurnId,
    eosIds,
    addsBos,
    encode,
    encodePrompt: text => encodePlainCut(text, []).ids,
    encodeWhole: text => [...around.before, ...encode(text), ...around.after],
    around,
    decode: (ids, options = {}) =>
      decodeTokens(vocabulary, options.special ? ids : [...ids].filter(id => !special.has(id))),
    streamDecoder: (options = {}) => streamDecoder(vocabulary, id => options.special || !special.has(id)),
    tokenBytes: vocabulary.bytes,
    isSpecial: id => special.has(id),
    addedToken: text => added.find(token => token.content === text)?.id ?? null,
    chatTemplates: Object.values(template.sources),
    renderChat,
    displayText: inert.restore,
    encodeRendered,
    encodeChat: (messages, tools, options) => encodeRendered(renderChat(messages, tools, options)),
    encodeCut,
    encodePlainCut,
  };
}

function tokensAround(library: HuggingFaceTokenizer): Tokenizer['around'] {
  const [plain, whole] = [false, true].map(
    add_special_tokens => library.encode('a', { add_special_tokens }).ids,
  ) as [number[], number[]];
  const start = whole.findIndex((_, at) => plain.every((id, i) => whole[at + i] === id));
  return { before: whole.slice(0, start), after: whole.slice(start + plain.length) };
}

const isId = (value: unknown): value is number => typeof value === 'number';

function tokenizerAddsBos(
  library: HuggingFaceTokenizer,
  config: Record<string, unknown>,
  bosId: number,
): boolean {
  if (typeof config.add_bos_token === 'boolean') return config.add_bos_token;
  return library.encode('a', { add_special_tokens: true }).ids[0] === bosId;
}

/** Exactly one BOS, whether the template, the tokenizer or both of them add it. */
function withBos({ ids, cuts }: EncodedParts, bosId: number | null): EncodedParts {
  if (bosId === null || ids[0] === bosId) return { ids, cuts };
  return { ids: [bosId, ...ids], cuts: cuts.map(cut => cut + 1) };
}

/** Finds the last special token that the template writes after an answer. */
function findEndOfTurn(
  renderChat: Tokenizer['renderChat'],
  encodeRendered: (rendered: string) => number[],
  special: ReadonlySet<number>,
): number | null {
  const question: Message = { role: 'user', content: 'a' };
  try {
    const answered = encodeRendered(renderChat([question, { role: 'assistant', content: 'b' }]));
    const asked = new Set(encodeRendered(renderChat([question], null, { addGenerationPrompt: true })));
    return (
      answered.findLast(id => special.has(id) && !asked.has(id)) ??
      answered.findLast(id => special.has(id)) ??
      null
    );
  } catch {
    return null; // The template rejects this conversation, so it is unknown.
  }
}
