// Arrays that stay on a device between runs: those of the devices that this machine has, and what engines without a memory say.
import { describe, expect, test } from 'vitest';
import { openCpuEngine } from '../../src/engine/cpu.ts';
import type { DeviceMemory, Engine, Program } from '../../src/engine/program.ts';
import { tf } from '../../src/engine/tf.ts';
import { withMemory } from './device.ts';
import { enginesUnderTest } from './engines.ts';

const N = 1000;
/** Sums the two, and says how many there were. */
const ADD: Program = {
  name: 'add',
  inputs: { a: { shape: [10, 100], dtype: 'float32' }, b: { shape: [N / 10, 10], dtype: 'float32' } },
  weights: {},
  run: ({ a, b }) => ({ sum: tf.add(a!, b!.reshape([10, 100])), ones: tf.onesLike(b!).sum() }),
};
const counting = Float32Array.from({ length: N }, (_, i) => i);
const ones = () => new Float32Array(N).fill(1);

const [onnx, ...others] = await enginesUnderTest();
const withDevices = [withMemory(onnx!), ...others.filter(({ memory }) => memory)];
const nameOf = ({ name, device }: Engine) => `${name} on ${device}`;

describe.each(withDevices.map(engine => ({ name: nameOf(engine), engine })))(
  'the memory of $name',
  ({ engine }) => {
    const memory = engine.memory as DeviceMemory;

    test('gives back every bit of what was placed', async () => {
      // Zeros with signs, the smallest numbers, infinities, a NaN that says something.
      const bits = Uint32Array.of(
        0,
        0x80000000,
        1,
        0x80000001,
        0x7f800000,
        0xff800000,
        0x7fc12345,
        0x7f7fffff,
      );
      const array = await memory.place(new Float32Array(bits.buffer));
      const back = new Uint32Array(bits.length);
      await memory.read(array, new Float32Array(back.buffer));
      memory.free(array);
      expect(back).toEqual(bits);
    });

    test('is read and written by runs where it lies, whatever the shape', async () => {
      const program = await engine.compile(ADD);
      let [from, to] = [await memory.place(counting), await memory.place(new Float32Array(N))];
      const step = await memory.place(ones());
      for (let run = 0; run < 5; run++) {
        const results = await program.run({ a: from, b: run === 4 ? ones() : step }, { sum: to });
        expect(results).toEqual({ ones: Float32Array.of(N) });
        [from, to] = [to, from];
      }
      const { sum } = await program.run({ a: from, b: step });
      expect(sum).toEqual(counting.map(number => number + 6));
      const read = new Float32Array(N);
      await memory.read(from, read);
      expect(read).toEqual(counting.map(number => number + 5));
      await program.close();
      for (const array of [from, to, step]) memory.free(array);
    });

    test('refuses what does not fit, and what was freed', async () => {
      const program = await engine.compile(ADD);
      const [short, freed] = [await memory.place(new Float32Array(9)), await memory.place(ones())];
      await expect(program.run({ a: short, b: ones() })).rejects.toThrow("input 'a' must hold 1000 numbers");
      memory.free(freed);
      await expect(program.run({ a: freed, b: ones() })).rejects.toThrow('freed');
      await expect(memory.read(freed, new Float32Array(N))).rejects.toThrow('freed');
      expect(() => memory.free(freed)).toThrow('freed');
      memory.free(short);
      await program.close();
    });
  },
);

test.each([
  ['onnx', onnx!],
  ['cpu', await openCpuEngine()],
])('the engine %s on the processor has none, and takes host arrays only', async (_, engine) => {
  expect(engine.memory).toBeUndefined();
  const program = await engine.compile(ADD);
  const array = await withMemory(engine).memory!.place(ones());
  await expect(program.run({ a: array, b: ones() })).rejects.toThrow("input 'a' must be a Float32Array");
  await expect(program.run({ a: ones(), b: ones() }, { sum: array })).rejects.toThrow(
    "output 'sum' must be a Float32Array",
  );
});
