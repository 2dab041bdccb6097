// The training state in device memory: an array per parameter, for its value, moments and gradient, placed when the run
// begins and read for checkpoints. Everything is allocated at the start; steps allocate nothing.
import type { DeviceArray, DeviceMemory, Engine, Program } from '../engine/program.ts';
import { openCompiled } from './compiled.ts';
import { adamwProgram, type OptimizerState, stepFactors } from './optimizer.ts';
import { AFTER, BEFORE, PARAMETER } from './programs.ts';
import type { StateLayout } from './state.ts';
import type { TrainedState } from './trained-state.ts';

/** By parameter name. */
type Arrays = Record<string, DeviceArray>;
const NUMBERS = ['parameters', 'm', 'v'] as const satisfies (keyof OptimizerState)[];

/** The sum of squares of all gradients; summed by rows first, so that no float32 sum is long. */
const squaresProgram = ({ slots }: StateLayout): Program => ({
  name: 'squares',
  inputs: Object.fromEntries(slots.map(({ name, shape }) => [name, { shape, dtype: 'float32' }])),
  weights: {},
  run(gradients) {
    const sums = slots.map(({ name }) => gradients[name]!.square().sum(-1).sum());
    return { sum: sums.reduce((sum, one) => sum.add(one)) };
  },
});

const prefixed = (prefix: string, arrays: Arrays): Arrays =>
  Object.fromEntries(Object.entries(arrays).map(([name, array]) => [prefix + name, array]));

/** Copies the parameters of a flat array to the device. */
async function placeAll(memory: DeviceMemory, { slots }: StateLayout, flat: Float32Array): Promise<Arrays> {
  const arrays: Arrays = {};
  for (const { name, offset, size } of slots)
    arrays[name] = await memory.place(flat.subarray(offset, offset + size));
  return arrays;
}

interface OfOneSize {
  /** Gradient sums before the first micro-batch. */
  readonly zeros: DeviceArray;
  /** Where the next step of a parameter is written; afterwards the parameter's old arrays take their place. */
  readonly next: Record<keyof OptimizerState, DeviceArray>;
}

async function placeSizes(memory: DeviceMemory, { slots }: StateLayout): Promise<Map<number, OfOneSize>> {
  const placed = new Map<number, OfOneSize>();
  for (const size of new Set(slots.map(slot => slot.size))) {
    const place = () => memory.place(new Float32Array(size));
    const next = { parameters: await place(), m: await place(), v: await place() };
    placed.set(size, { zeros: await place(), next });
  }
  return placed;
}

export async function openDeviceState(
  engine: Engine,
  memory: DeviceMemory,
  layout: StateLayout,
  state: OptimizerState,
): Promise<TrainedState> {
  const { slots } = layout;
  const adamw = openCompiled(engine, adamwProgram);
  const squares = await engine.compile(squaresProgram(layout));
  const place = (flat: Float32Array) => placeAll(memory, layout, flat);
  const free = (arrays: Arrays) => Object.values(arrays).forEach(memory.free);

  const held = {
    parameters: await place(state.parameters),
    m: await place(state.m),
    v: await place(state.v),
  };
  const sizes = await placeSizes(memory, layout);
  const zeros: Arrays = Object.fromEntries(slots.map(({ name, size }) => [name, sizes.get(size)!.zeros]));
  // Gradient sums alternate between two sets: a program's outputs must not overlap its inputs.
  const nothing = new Float32Array(layout.size);
  const sums = [await place(nothing), await place(nothing)] as const;
  let last: Arrays = zeros;

  async function read(kinds: readonly (keyof OptimizerState)[]): Promise<OptimizerState> {
    for (const kind of kinds)
      for (const { name, offset, size } of slots)
        await memory.read(held[kind][name]!, state[kind].subarray(offset, offset + size));
    return state;
  }

  return {
    parameters: () => prefixed(PARAMETER, held.parameters),
    startSums() {
      last = zeros;
    },
    async addGradients(program, fed) {
      const next = last === sums[0] ? sums[1] : sums[0];
      const numbers = { ...prefixed(PARAMETER, held.parameters), ...prefixed(BEFORE, last) };
      const produced = await program.run({ ...fed, ...numbers }, prefixed(AFTER, next));
      last = next;
      return produced;
    },
    async update(step) {
      const { sum } = await squares.run(last);
      const { norm, decaying, lasting } = stepFactors(sum![0]!, step);
      for (const { name, size, decays } of slots) {
        const { next } = sizes.get(size)!;
        const numbers = { parameters: held.parameters[name]!, m: held.m[name]!, v: held.v[name]! };
        const factors = decays ? decaying : lasting;
        await (await adamw.get(size)).run({ ...numbers, gradients: last[name]!, ...factors }, { ...next });
        for (const kind of NUMBERS) [held[kind][name], next[kind]] = [next[kind], numbers[kind]];
      }
      return norm;
    },
    async place(flat) {
      const placed = await place(flat);
      return { arrays: prefixed(PARAMETER, placed), free: () => free(placed) };
    },
    read: () => read(NUMBERS),
    readParameters: async () => (await read(['parameters'])).parameters,
    async close() {
      await adamw.close();
      await squares.close();
      for (const arrays of [...Object.values(held), ...sums]) free(arrays);
      for (const { zeros, next } of sizes.values()) free({ zeros, ...next });
    },
  };
}
