// Reads the parts of a SentencePiece model file that a tokenizer needs: pieces, scores and normalization. Does not encode.
// https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto

export interface SentencePieces {
  readonly pieces: readonly { readonly piece: string; readonly score: number; readonly type: number }[];
  /** `unigram`, or the number of another `TrainerSpec.ModelType`. */
  readonly kind: 'unigram' | number;
  /** `precompiled_charsmap` of the normalizer, base64; null for no normalization. */
  readonly charsMap: string | null;
  readonly removesExtraSpaces: boolean;
}

const UNIGRAM = 1;
export const UNKNOWN = 2;

type Field = readonly [number: number, value: number | Uint8Array];

/** The fields of a protobuf message: varints and fixed-size values as numbers, all others as bytes. */
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
  /** Advances by `count` bytes; returns the position before. */
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

/** Throws if the bytes are not a SentencePiece model. */
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
