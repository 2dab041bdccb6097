// A model's tokenizer and chat template, read from its Hugging Face folder: conversations and texts to tokens and back.
// Loss masks are made in examples.ts.
//
// Special tokens that stand in a user's text (`<|im_end|>` inside a message, or in a prompt) are text, never control
// tokens: only what the chat template itself writes can be a control token. Added tokens that are not special
// (`<think>`, `<tool_call>`) keep their id everywhere.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { alternation } from './alternation.ts';
import { type ChatTemplate, loadChatTemplate, type RenderOptions } from './chat-template.ts';
import type { Message, Tool } from './conversation.ts';
import { type InertText, inertText } from './inert-text.ts';
import { type EncodePlain, plainTextEncoder } from './plain-text.ts';
import {
  decodeTokens,
  type StreamDecoder,
  streamDecoder,
  type TokenBytes,
  tokenBytes,
} from './token-bytes.ts';

export interface DecodeOptions {
  /** Writes special tokens out too; they are left out otherwise. */
  special?: boolean;
}

export interface EncodedParts {
  ids: number[];
  /** For each cut, the index of the first token that starts at it or after it. */
  cuts: number[];
}

export interface Tokenizer {
  /** sha256 over everything that decides the tokens: tokenizer, its config, template, generation config. */
  readonly identity: string;
  /** Highest id + 1. The model's embedding may have more rows. */
  readonly vocabSize: number;
  readonly bosId: number | null;
  /** The token that ends a plain text. */
  readonly eosId: number | null;
  readonly padId: number | null;
  /** The token with which the chat template ends an assistant's message; null when it writes none. */
  readonly endOfTurnId: number | null;
  /** Every token at which generation stops: of generation_config, eos and end of turn. */
  readonly eosIds: readonly number[];
  /** Whether the tokenizer itself puts BOS before a text. */
  readonly addsBos: boolean;
  /** Nothing is added. Special tokens in the text are text. */
  encode(text: string): number[];
  /** A text to be continued: BOS where the tokenizer puts one, then `encode`. */
  encodePrompt(text: string): number[];
  decode(ids: Iterable<number>, options?: DecodeOptions): string;
  streamDecoder(): StreamDecoder;
  tokenBytes(id: number): Uint8Array;
  isSpecial(id: number): boolean;
  /**
   * The template's text. Special tokens that a user wrote are marked in it: give it to `encodeRendered`, or to
   * `displayText` before showing it. Throws TemplateError.
   */
  renderChat(messages: readonly Message[], tools?: readonly Tool[] | null, options?: RenderOptions): string;
  displayText(rendered: string): string;
  /** Rendered text -> tokens, BOS exactly once where the model has one. */
  encodeRendered(rendered: string): number[];
  /** `encodeRendered(renderChat(...))`: the tokens of a chat request when `addGenerationPrompt` is set. */
  encodeChat(messages: readonly Message[], tools?: readonly Tool[] | null, options?: RenderOptions): number[];
  /** As `encodeRendered`, with the token index of each offset (ascending). The tokens before a cut are those of the text before it, alone. */
  encodeCut(rendered: string, offsets: readonly number[]): EncodedParts;
  /** `encodeCut` for a plain text, in which nothing is a control token; BOS as in `encodePrompt`. */
  encodePlainCut(text: string, offsets: readonly number[]): EncodedParts;
}

export async function loadTokenizer(modelDirectory: string): Promise<Tokenizer> {
  const files = await readTokenizerFiles(modelDirectory);
  const library = new HuggingFaceTokenizer(files.tokenizer, files.config);
  const names = specialTokenNames(files.config);
  const template = await loadChatTemplate(modelDirectory, files.config, names);
  const identity = hash([files.tokenizer, files.config, files.generation, template.sources, 'v1']);
  return buildTokenizer({ library, files, names, template, identity });
}

interface TokenizerFiles {
  tokenizer: Record<string, unknown>;
  config: Record<string, unknown>;
  generation: Record<string, unknown>;
}

async function readTokenizerFiles(modelDirectory: string): Promise<TokenizerFiles> {
  const read = (name: string) => readJson(join(modelDirectory, name));
  const tokenizer = await read('tokenizer.json');
  if (tokenizer === null) throw new Error(`No tokenizer.json in ${modelDirectory}`);
  const config = { ...(await read('special_tokens_map.json')), ...(await read('tokenizer_config.json')) };
  const model = (await read('config.json')) ?? {};
  const generation = { eos_token_id: model.eos_token_id, ...(await read('generation_config.json')) };
  return { tokenizer, config, generation };
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
  const encodePlain = plainTextEncoder(library, files.tokenizer.pre_tokenizer, special);
  const cutter = sectionCutter(encodePlain, inert, vocabulary);
  const split = sectionSplitter(added, special);
  const addsBos = bosId !== null && tokenizerAddsBos(library, files.config, bosId);

  const encodeCut = (rendered: string, offsets: readonly number[]): EncodedParts =>
    withBos(encodeSections(split(rendered, true), offsets, cutter), addsBos ? bosId : null);
  const encodePlainCut = (text: string, offsets: readonly number[]): EncodedParts => {
    const marked = inert.protect(text);
    const moved = offsets.map(offset => inert.protect(text.slice(0, offset)).length);
    return withBos(encodeSections(split(marked, false), moved, cutter), addsBos ? bosId : null);
  };
  const renderChat: Tokenizer['renderChat'] = (messages, tools = null, options = {}) =>
    template.render(inert.protectAll(template.prepare(messages)), inert.protectAll(tools), options);
  const encodeRendered = (rendered: string) => encodeCut(rendered, []).ids;

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
    encode: text => encodeSections(split(inert.protect(text), false), [], cutter).ids,
    encodePrompt: text => encodePlainCut(text, []).ids,
    decode: (ids, options = {}) =>
      decodeTokens(vocabulary, options.special ? ids : [...ids].filter(id => !special.has(id))),
    streamDecoder: () => streamDecoder(vocabulary),
    tokenBytes: vocabulary.bytes,
    isSpecial: id => special.has(id),
    renderChat,
    displayText: inert.restore,
    encodeRendered,
    encodeChat: (messages, tools, options) => encodeRendered(renderChat(messages, tools, options)),
    encodeCut,
    encodePlainCut,
  };
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

/** BOS is written once, whether the template, the tokenizer or both of them write it. */
function withBos({ ids, cuts }: EncodedParts, bosId: number | null): EncodedParts {
  if (bosId === null || ids[0] === bosId) return { ids, cuts };
  return { ids: [bosId, ...ids], cuts: cuts.map(cut => cut + 1) };
}

/** Asks the template: the last special token after an answer that closes a conversation. */
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
    return null; // A template that refuses this conversation tells nothing.
  }
}

/** A control token, or a stretch of text between two of them. Offsets are those of the rendered text. */
interface Section {
  start: number;
  end: number;
  id: number | null;
  text: string;
}

interface AddedToken {
  id: number;
  content: string;
  lstrip: boolean;
  rstrip: boolean;
}

/** Splits at added tokens, the longest first. `special` false: special ones are not looked for. */
function sectionSplitter(added: readonly AddedToken[], special: ReadonlySet<number>) {
  const byContent = new Map(
    added.filter(token => token.content.length > 0).map(token => [token.content, token]),
  );
  const everything = alternation(added.map(token => token.content));
  const harmless = alternation(added.filter(token => !special.has(token.id)).map(token => token.content));

  return (text: string, withSpecial: boolean): Section[] => {
    const expression = withSpecial ? everything : harmless;
    const sections: Section[] = [];
    let position = 0;
    const addText = (end: number) => {
      if (end > position) sections.push({ start: position, end, id: null, text: text.slice(position, end) });
    };
    for (const match of expression === null ? [] : text.matchAll(expression)) {
      const token = byContent.get(match[0])!;
      addText(match.index);
      position = match.index + match[0].length;
      sections.push({ start: match.index, end: position, id: token.id, text: match[0] });
    }
    addText(text.length);
    return trimAround(sections, byContent);
  };
}

/** Added tokens may swallow the white space beside them (`lstrip`, `rstrip`). */
function trimAround(sections: Section[], byContent: ReadonlyMap<string, AddedToken>): Section[] {
  sections.forEach((section, i) => {
    if (section.id === null) return;
    const token = byContent.get(section.text)!;
    const [before, after] = [sections[i - 1], sections[i + 1]];
    if (token.lstrip && before?.id === null) before.text = before.text.trimEnd();
    if (token.rstrip && after?.id === null) {
      const trimmed = after.text.trimStart();
      after.start += after.text.length - trimmed.length;
      after.text = trimmed;
    }
  });
  return sections;
}

/** Text of a section -> its tokens, with the token index of each offset inside it. */
type CutSection = (text: string, offsets: readonly number[], section: number) => EncodedParts;

function encodeSections(
  sections: readonly Section[],
  offsets: readonly number[],
  cutSection: CutSection,
): EncodedParts {
  const ids: number[] = [];
  const cuts: number[] = [];
  let next = 0;
  sections.forEach((section, index) => {
    const inside: number[] = [];
    for (; next < offsets.length && offsets[next]! < section.end; next++) {
      inside.push(Math.max(0, offsets[next]! - section.start));
    }
    if (section.id !== null) {
      for (const _ of inside) cuts.push(ids.length);
      ids.push(section.id);
      return;
    }
    const part = cutSection(section.text, inside, index);
    for (const cut of part.cuts) cuts.push(ids.length + cut);
    for (const id of part.ids) ids.push(id);
  });
  for (; next < offsets.length; next++) cuts.push(ids.length);
  return { ids, cuts };
}

/**
 * Tokens of a text and where its cuts fall. A cut is clean when the text before it, tokenized alone, gives the first
 * tokens of the whole. Where a token would span the cut, both sides are tokenized apart, as they are when the text
 * before the cut is a prompt and the rest is generated.
 */
function sectionCutter(encodePlain: EncodePlain, inert: InertText, vocabulary: TokenBytes): CutSection {
  const encode = (text: string, section: number) => encodePlain(inert.restore(text), section);
  const addsPrefix =
    encode('a', 0).length > 0 && Buffer.concat(encode('a', 0).map(vocabulary.bytes)).toString() !== 'a';
  /** Tokens of a text that goes on inside a section: without the space that some vocabularies put before its first word. */
  const encodeContinuation = (text: string, section: number): number[] => {
    if (!addsPrefix) return encode(text, section);
    const anchor = encode('\n', section);
    const anchored = encode(`\n${text}`, section);
    return startsWith(anchored, anchor) ? anchored.slice(anchor.length) : encode(text, section);
  };
  return (text, offsets, section) => {
    let ids = encode(text, section);
    const cuts: number[] = [];
    let from = 0; // Where the last unclean cut was made, in characters and in tokens.
    let fromToken = 0;
    const encodeFrom = (end: number) =>
      from === 0 ? encode(text.slice(0, end), section) : encodeContinuation(text.slice(from, end), section);
    for (const offset of offsets) {
      if (offset === from) {
        cuts.push(fromToken);
        continue;
      }
      const before = encodeFrom(offset);
      const cut = fromToken + before.length;
      if (!startsWith(ids, before, fromToken)) {
        ids = [...ids.slice(0, fromToken), ...before, ...encodeContinuation(text.slice(offset), section)];
        from = offset;
        fromToken = cut;
      }
      cuts.push(cut);
    }
    return { ids, cuts };
  };
}

function startsWith(ids: readonly number[], start: readonly number[], at = 0): boolean {
  return start.every((id, i) => ids[at + i] === id);
}
