// Devices for tests: a memory of opaque arrays over an engine that has none, and an engine whose traffic with the host is counted. Not a test itself.
import { isHostArray } from '../../src/engine/arrays.ts';
import type { DeviceArray, DeviceMemory, Engine, RunArrays } from '../../src/engine/program.ts';

/** What it holds is seen by the memory that made it alone. */
class OpaqueArray implements DeviceArray {
  readonly length: number;
  #values: Float32Array | null;

  constructor(values: Float32Array) {
    this.#values = values.slice();
    this.length = values.length;
  }

  get values(): Float32Array {
    if (this.#values === null) throw new Error('an array is used after it was freed');
    return this.#values;
  }

  free(): void {
    if (this.values) this.#values = null;
  }
}

const opened = (array: DeviceArray) => (array as OpaqueArray).values;
const openAll = (arrays: RunArrays) =>
  Object.fromEntries(
    Object.entries(arrays).map(([name, array]) => [name, isHostArray(array) ? array : opened(array)]),
  );

/** Whatever a device would make of it: outputs begin as what lies there, and overlap no input. */
function refuseOverlap(inputs: RunArrays, into: RunArrays): void {
  const read = new Set(Object.values(inputs));
  const twice = Object.keys(into).find(name => read.has(into[name]!));
  if (twice) throw new Error(`the output ${twice} overlaps an input`);
}

/** The engine with a memory of its own: what a device has, on any machine. */
export function withMemory(engine: Engine): Engine {
  return {
    ...engine,
    memory: {
      place: async array => new OpaqueArray(array),
      read: async (from, into) => into.set(opened(from)),
      free: array => (array as OpaqueArray).free(),
    },
    async compile(program) {
      const executable = await engine.compile(program);
      return {
        ...executable,
        async run(inputs, into = {}) {
          refuseOverlap(inputs, into);
          const results = await executable.run(openAll(inputs), openAll(into));
          const onDevice = Object.keys(into).filter(name => !isHostArray(into[name]!));
          return Object.fromEntries(Object.entries(results).filter(([name]) => !onDevice.includes(name)));
        },
      };
    },
  };
}

export interface Traffic {
  /** Between host and device, both ways. */
  movedBytes: number;
  /** Arrays on the device that were not freed. */
  readonly live: Set<DeviceArray>;
}

const hostBytes = (arrays: RunArrays) =>
  Object.values(arrays)
    .filter(isHostArray)
    .reduce((sum, { byteLength }) => sum + byteLength, 0);

function countedMemory(memory: DeviceMemory, traffic: Traffic): DeviceMemory {
  return {
    async place(array) {
      traffic.movedBytes += array.byteLength;
      const placed = await memory.place(array);
      traffic.live.add(placed);
      return placed;
    },
    read(from, into) {
      traffic.movedBytes += into.byteLength;
      return memory.read(from, into);
    },
    free(array) {
      traffic.live.delete(array);
      memory.free(array);
    },
  };
}

export function counted(engine: Engine): { engine: Engine; traffic: Traffic } {
  const traffic: Traffic = { movedBytes: 0, live: new Set() };
  const counting: Engine = {
    ...engine,
    memory: engine.memory && countedMemory(engine.memory, traffic),
    async compile(program) {
      const executable = await engine.compile(program);
      return {
        ...executable,
        async run(inputs, into) {
          const results = await executable.run(inputs, into);
          traffic.movedBytes += hostBytes(inputs) + hostBytes(results);
          return results;
        },
      };
    },
  };
  return { engine: counting, traffic };
}
