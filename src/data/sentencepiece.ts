// Reads a SentencePiece model file as far as a tokenizer needs it: pieces, scores, and what is done to a text before.
// https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto. It encodes nothing.

export interface SentencePieces {
  readonly pieces: readonly { readonly piece: string; readonly score: number; readonly type: number }[];
  /** `unigram`, or a number of `TrainerSpec.ModelType` for what else there is. */
  readonly kind: 'unigram' | number;
  /** What SentencePiece compiled its normalization to, base64; null: texts stay as they are. */
  readonly charsMap: string | null;
  readonly removesExtraSpaces: boolean;
}

const UNIGRAM = 1;
export const UNKNOWN = 2;

type Field = readonly [number: number, value: number | Uint8Array];

/** The fields of one protobuf message: varints and fixed numbers as numbers, everything else as bytes. */
function* fieldsOf(bytes: Uint8Array): Generator<Field> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = view.getUint8(at++);
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  };
  /** Where the next `count` bytes begin. */
  const skip = (count: number): number => {
    at += count;
    return at - count;
  };
  const read: Record<number, () => number | Uint8Array> = {
    0: varint,
    1: () => view.getFloat64(skip(8), true),
    2() {
      const length = varint();
      return bytes.subarray(skip(length), at);
    },
    5: () => view.getFloat32(skip(4), true),
  };
  while (at < bytes.length) {
    const tag = varint();
    const value = read[tag & 7]?.();
    if (value === undefined) throw new RangeError(`wire type ${tag & 7}`);
    yield [Math.floor(tag / 8), value];
  }
}

const messageOf = (value: number | Uint8Array | undefined): Map<number, number | Uint8Array> =>
  new Map(value instanceof Uint8Array ? fieldsOf(value) : []);

const NORMAL = 1;

/** Throws where the bytes are no SentencePiece model. */
export function readSentencePieces(bytes: Uint8Array): SentencePieces {
  const all = [...fieldsOf(bytes)];
  const last = (number: number) => messageOf(all.findLast(([field]) => field === number)?.[1]);
  const [trainer, normalizer] = [last(2), last(3)];
  const kind = (trainer.get(3) as number | undefined) ?? UNIGRAM;
  const charsMap = normalizer.get(2) as Uint8Array | undefined;
  return {
    pieces: all
      .filter(([field]) => field === 1)
      .map(([, value]) => {
        const fields = messageOf(value);
        return {
          piece: Buffer.from((fields.get(1) as Uint8Array | undefined) ?? []).toString('utf8'),
          score: (fields.get(2) as number | undefined) ?? 0,
          type: (fields.get(3) as number | undefined) ?? NORMAL,
        };
      }),
    kind: kind === UNIGRAM ? 'unigram' : kind,
    charsMap: charsMap && charsMap.length > 0 ? Buffer.from(charsMap).toString('base64') : null,
    removesExtraSpaces: normalizer.get(4) !== 0,
  };
}
