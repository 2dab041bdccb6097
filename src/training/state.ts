// The layout of the trainable parameters in one flat array: first those with weight decay, then those without, in
// chunks of one size. Gradients and moments are laid out alike. It holds no values.

export interface Parameter {
  readonly name: string;
  readonly shape: readonly number[];
  /** Whether weight decay applies: matrices yes; biases and norms no. */
  readonly decays: boolean;
}

interface Slot extends Parameter {
  readonly offset: number;
  readonly size: number;
}

export interface StateLayout {
  readonly slots: readonly Slot[];
  /** Length of the flat array, zero padding included: a multiple of `chunk`. */
  readonly size: number;
  readonly chunk: number;
  /** Chunks before this offset have weight decay. A multiple of `chunk`. */
  readonly decayEnd: number;
}

const SMALLEST_CHUNK = 1 << 12;
const LARGEST_CHUNK = 1 << 22;

const product = (shape: readonly number[]) => shape.reduce((size, length) => size * length, 1);
const roundUp = (size: number, to: number) => Math.ceil(size / to) * to;

/** About eight chunks: little padding for small states, few calls for large ones. */
function chunkFor(total: number): number {
  let chunk = SMALLEST_CHUNK;
  while (chunk < LARGEST_CHUNK && chunk * 8 < total) chunk *= 2;
  return chunk;
}

export function layOutState(parameters: readonly Parameter[]): StateLayout {
  const chunk = chunkFor(parameters.reduce((total, { shape }) => total + product(shape), 0));
  const slots: Slot[] = [];
  let offset = 0;
  const place = (parameter: Parameter) => {
    const size = product(parameter.shape);
    slots.push({ ...parameter, offset, size });
    offset += size;
  };
  parameters.filter(({ decays }) => decays).forEach(place);
  offset = roundUp(offset, chunk);
  const decayEnd = offset;
  parameters.filter(({ decays }) => !decays).forEach(place);
  return { slots, size: roundUp(offset, chunk), chunk, decayEnd };
}

/** Written explicitly: pages that are only reserved would not be resident yet when memory is measured. */
export const zeros = (size: number): Float32Array => new Float32Array(size).fill(0);

/** Views of a flat array by parameter name, with an optional prefix. */
export function viewsOf(flat: Float32Array, layout: StateLayout, prefix = ''): Record<string, Float32Array> {
  return Object.fromEntries(
    layout.slots.map(({ name, offset, size }) => [prefix + name, flat.subarray(offset, offset + size)]),
  );
}
