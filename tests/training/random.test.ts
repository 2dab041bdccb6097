// The generator against Random123's known answers, and what is drawn with it.
import { describe, expect, it } from 'vitest';
import { fillBits, fillKept, normals, permutation, philox } from '../../src/training/random.ts';

const place = (seed: number, at: [number, number, number] = [0, 0, 0]) =>
  ({ seed, purpose: 'order', at }) as const;

describe('philox', () => {
  // https://github.com/DEShawResearch/random123/blob/main/tests/kat_vectors, philox4x32 10
  it.each([
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ])('gives the known answer for counter %j and key %j', (counter, [key0, key1], expected) => {
    const block = Uint32Array.from(counter);
    philox(block, key0!, key1!);
    expect([...block]).toEqual(expected);
  });
});

describe('what is drawn', () => {
  it('depends on seed, purpose and place, and not on how much is drawn', () => {
    const five = fillBits(new Uint32Array(5), place(1));
    expect([...fillBits(new Uint32Array(11), place(1)).subarray(0, 5)]).toEqual([...five]);
    for (const other of [
      place(2),
      place(1, [1, 0, 0]),
      place(1, [0, 1, 0]),
      place(1, [0, 0, 1]),
      { ...place(1), purpose: 'dropout' } as const,
    ])
      expect([...fillBits(new Uint32Array(5), other)]).not.toEqual([...five]);
  });

  it('drops with the probability asked for', () => {
    const kept = fillKept(new Uint8Array(200_000), 0.1, place(4));
    const share = kept.reduce((sum, value) => sum + value, 0) / kept.length;
    expect(share).toBeCloseTo(0.9, 2);
  });

  it('is normal: mean, variance and tails', () => {
    const drawn = normals(100_000, place(6));
    const mean = (of: (x: number) => number) => drawn.reduce((sum, x) => sum + of(x), 0) / drawn.length;
    expect(mean(x => x)).toBeCloseTo(0, 2);
    expect(mean(x => x * x)).toBeCloseTo(1, 1);
    expect(mean(x => Number(Math.abs(x) > 1.96))).toBeCloseTo(0.05, 2);
    expect([...normals(4, place(6))]).toEqual([...drawn.subarray(0, 4)]);
  });

  it('is a permutation, another one for another place', () => {
    const order = permutation(1000, place(5));
    expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, i) => i));
    expect([...permutation(1000, place(5, [1, 0, 0]))]).not.toEqual([...order]);
  });
});
