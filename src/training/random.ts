// Reproducible random numbers: Philox4x32-10, a counter-based generator. A number depends only on where it is asked for
// (seed, purpose, three coordinates, index), never on earlier draws, so a resumed run, or one with other micro-batches,
// draws the same. Not for secrets. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;

/** What a number is drawn for; numbers of different purposes are independent. */
const purposes = { adapter: 1, order: 2, dropout: 3, head: 4, rollout: 5, validation: 6 } as const;

/** Where numbers are drawn: each coordinate an unsigned 32-bit integer. */
export interface Place {
  readonly seed: number;
  readonly purpose: keyof typeof purposes;
  readonly at: readonly [number, number, number];
}

/** The upper 32 bits of the 64-bit product of two unsigned 32-bit integers. */
function multiplyHigh(a: number, b: number): number {
  const a0 = a & 0xffff;
  const a1 = a >>> 16;
  const b0 = b & 0xffff;
  const b1 = b >>> 16;
  const low = Math.imul(a0, b0) >>> 0;
  const middle = (Math.imul(a1, b0) >>> 0) + (low >>> 16);
  const cross = (Math.imul(a0, b1) >>> 0) + (middle % 0x10000);
  return Math.imul(a1, b1) + Math.floor(middle / 0x10000) + Math.floor(cross / 0x10000);
}

/** Ten rounds of Philox on a block of four words, in place. */
export function philox(block: Uint32Array, key0: number, key1: number): void {
  let [a, b, c, d] = [block[0]!, block[1]!, block[2]!, block[3]!];
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, a);
    const low0 = Math.imul(MULTIPLIER_0, a);
    const high1 = multiplyHigh(MULTIPLIER_1, c);
    const low1 = Math.imul(MULTIPLIER_1, c);
    a = (high1 ^ b ^ key0) >>> 0;
    b = low1 >>> 0;
    c = (high0 ^ d ^ key1) >>> 0;
    d = low0 >>> 0;
    key0 = (key0 + WEYL_0) >>> 0;
    key1 = (key1 + WEYL_1) >>> 0;
  }
  block[0] = a;
  block[1] = b;
  block[2] = c;
  block[3] = d;
}

/** Fills with independent 32-bit integers. */
export function fillBits(out: Uint32Array, { seed, purpose, at }: Place): Uint32Array {
  const block = new Uint32Array(4);
  for (let index = 0; index < out.length; index += 4) {
    block[0] = index / 4;
    block[1] = at[0];
    block[2] = at[1];
    block[3] = at[2];
    philox(block, seed >>> 0, purposes[purpose]);
    for (let word = 0; word < 4 && index + word < out.length; word++) out[index + word] = block[word]!;
  }
  return out;
}

/** Fills with 1 (kept) and 0 (dropped, with the given probability rounded to 1/65536). */
export function fillKept(out: Uint8Array, dropProbability: number, place: Place): Uint8Array {
  const halves = new Uint16Array(fillBits(new Uint32Array(Math.ceil(out.length / 2)), place).buffer);
  const threshold = Math.round(dropProbability * 65536);
  for (let i = 0; i < out.length; i++) out[i] = halves[i]! < threshold ? 0 : 1;
  return out;
}

/** Standard normal numbers (Box-Muller). */
export function normals(count: number, place: Place): Float32Array {
  const bits = fillBits(new Uint32Array(2 * count), place);
  return Float32Array.from({ length: count }, (_, i) => {
    const radius = Math.sqrt(-2 * Math.log((bits[2 * i]! + 1) / 0x100000000));
    return radius * Math.cos((2 * Math.PI * bits[2 * i + 1]!) / 0x100000000);
  });
}

/** 0 .. count-1 in random order (Fisher-Yates). */
export function permutation(count: number, place: Place): Int32Array {
  const order = Int32Array.from({ length: count }, (_, i) => i);
  const bits = fillBits(new Uint32Array(count), place);
  for (let i = count - 1; i > 0; i--) {
    const other = Math.floor((bits[i]! / 0x100000000) * (i + 1));
    const kept = order[i]!;
    order[i] = order[other]!;
    order[other] = kept;
  }
  return order;
}
