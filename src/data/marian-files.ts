// Tokenizer files of Marian models, which have no `tokenizer.json`: a SentencePiece model per language and a shared vocabulary.
// Converts them to the form of `tokenizer.json`; does not encode.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readSentencePieces, type SentencePieces, UNKNOWN } from './sentencepiece.ts';

export interface MarianFiles {
  /** In the form of `tokenizer.json`, except for the ids. */
  readonly source: Record<string, unknown>;
  readonly target: Record<string, unknown>;
  /** Piece -> id. */
  readonly ids: ReadonlyMap<string, number>;
}

/** Special tokens, as in `tokenizer_config.json`; older folders do not list them. */
export const MARIAN_NAMES = { eos_token: '</s>', unk_token: '<unk>', pad_token: '<pad>' };

const END = MARIAN_NAMES.eos_token;
const SPECIAL = Object.values(MARIAN_NAMES);
const LANGUAGE = /^>>.+<<$/;

/** Null if the folder has no such files. Throws if they are invalid. */
export async function readMarianFiles(directory: string): Promise<MarianFiles | null> {
  const names = ['source.spm', 'target.spm', 'vocab.json'];
  const [source, target, vocab] = await Promise.all(
    names.map(name => readFile(join(directory, name)).catch(nullWhenMissing)),
  );
  if (!source || !target || !vocab) return null;
  if (await readFile(join(directory, 'target_vocab.json')).catch(nullWhenMissing))
    throw new Error(`${directory} has two vocabularies (target_vocab.json), which are not supported`);
  const ids = new Map(Object.entries(JSON.parse(vocab.toString('utf8')) as Record<string, number>));
  for (const name of SPECIAL)
    if (!ids.has(name)) throw new Error(`${join(directory, 'vocab.json')} has no ${name}`);
  const side = (bytes: Uint8Array, name: string) =>
    tokenizerJson(readPieces(bytes, join(directory, name)), ids);
  return { source: side(source, names[0]!), target: side(target, names[1]!), ids };
}

function nullWhenMissing(error: NodeJS.ErrnoException): null {
  if (error.code === 'ENOENT') return null;
  throw error;
}

function readPieces(bytes: Uint8Array, file: string): SentencePieces {
  try {
    const read = readSentencePieces(bytes);
    if (read.kind === 'unigram' && read.pieces.length > 0) return read;
  } catch (cause) {
    throw new Error(`${file} is no SentencePiece model`, { cause });
  }
  throw new Error(`${file} is no unigram model of SentencePiece; others are not read`);
}

function tokenizerJson(
  { pieces, charsMap, removesExtraSpaces }: SentencePieces,
  ids: ReadonlyMap<string, number>,
): Record<string, unknown> {
  const normalizers = [
    ...(charsMap === null ? [] : [{ type: 'Precompiled', precompiled_charsmap: charsMap }]),
    ...(removesExtraSpaces
      ? [
          { type: 'Strip', strip_left: true, strip_right: true },
          { type: 'Replace', pattern: { Regex: ' {2,}' }, content: ' ' },
        ]
      : []),
  ];
  const metaspace = { type: 'Metaspace', replacement: '\u2581', prepend_scheme: 'always', split: true };
  const added = [...ids.keys()].filter(piece => SPECIAL.includes(piece) || LANGUAGE.test(piece));
  return {
    version: '1.0',
    added_tokens: added.map(content => ({
      id: ids.get(content)!,
      content,
      special: SPECIAL.includes(content),
      normalized: false,
      single_word: false,
      lstrip: false,
      rstrip: false,
    })),
    normalizer: { type: 'Sequence', normalizers },
    pre_tokenizer: metaspace,
    decoder: metaspace,
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ Sequence: { id: 'A', type_id: 0 } }, { SpecialToken: { id: END, type_id: 0 } }],
      pair: [],
      special_tokens: { [END]: { id: END, ids: [ids.get(END)!], tokens: [END] } },
    },
    model: {
      type: 'Unigram',
      unk_id: pieces.findIndex(({ type }) => type === UNKNOWN),
      vocab: pieces.map(({ piece, score }) => [piece, score]),
    },
  };
}
