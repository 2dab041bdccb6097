// Small programs and numbers for the engine's tests, and the comparison of two engines. Not a test itself.
import type { Tensor } from '@tensorflow/tfjs';
import { expect } from 'vitest';
import { sizeOf } from '../../src/engine/arrays.ts';
import type { DType, Engine, HostArray, HostArrays, Program, Tensors } from '../../src/engine/program.ts';

/** Repeatable numbers in (-1, 1): a linear congruential generator. */
export function numbers(count: number, seed = 1): Float32Array {
  let state = seed >>> 0;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 32) * 2 - 1;
  });
}

export interface Given {
  readonly shape: readonly number[];
  readonly dtype?: DType;
  readonly data: HostArray;
}

export const f32 = (shape: readonly number[], seed = 1, scale = 1): Given => ({
  shape,
  data: numbers(sizeOf(shape), seed).map(number => number * scale),
});

export const i32 = (shape: readonly number[], values: readonly number[]): Given => ({
  shape,
  dtype: 'int32',
  data: Int32Array.from(values),
});

export const bool = (shape: readonly number[], values: readonly number[]): Given => ({
  shape,
  dtype: 'bool',
  data: Uint8Array.from(values),
});

/** A program on `given` whose outputs are named 0, 1, ... */
export function programOf(
  name: string,
  given: readonly Given[],
  body: (...inputs: never[]) => Tensor | Tensor[],
): { program: Program; inputs: HostArrays } {
  const names = given.map((_, i) => `x${i}`);
  const specs = given.map(({ shape, dtype = 'float32' }, i) => [names[i]!, { shape, dtype }] as const);
  return {
    program: {
      name,
      inputs: Object.fromEntries(specs),
      weights: {},
      run(inputs: Tensors): Tensors {
        const results = body(...(names.map(input => inputs[input]) as never[]));
        return Object.fromEntries([results].flat().map((tensor, i) => [String(i), tensor]));
      },
    },
    inputs: Object.fromEntries(given.map(({ data }, i) => [names[i]!, data])),
  };
}

export async function runOn(engine: Engine, program: Program, inputs: HostArrays): Promise<HostArrays> {
  const executable = await engine.compile(program);
  try {
    return await executable.run(inputs);
  } finally {
    await executable.close();
  }
}

/** Every output alike: equal types and lengths, numbers within `tolerance` of the larger of 1 and the expected one. */
export function expectAlike(got: HostArrays, expected: HostArrays, tolerance = 1e-5): void {
  expect(Object.keys(got)).toEqual(Object.keys(expected));
  for (const [name, array] of Object.entries(expected)) {
    expect(got[name]!.constructor.name, name).toBe(array.constructor.name);
    expect(got[name]!.length, name).toBe(array.length);
    array.forEach((number, i) => {
      const difference = Math.abs(got[name]![i]! - number);
      const close =
        difference <= tolerance * Math.max(1, Math.abs(number)) || Object.is(got[name]![i], number);
      if (!close) expect.fail(`output ${name}[${i}]: got ${got[name]![i]}, expected ${number}`);
    });
  }
}
