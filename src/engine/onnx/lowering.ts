// A graph on its way to ONNX: names for its values, nodes and small constants added one by one. Which nodes an op becomes is in rules.ts.
import type {
  OnnxAttribute,
  OnnxGraph,
  OnnxInitializer,
  OnnxNode,
  OnnxType,
  OnnxValue,
} from '../../formats/onnx.ts';
import { ONNX_TYPES } from '../../formats/onnx.ts';
import { sizeOf } from '../arrays.ts';
import type { Value } from '../graph.ts';
import type { DType } from '../program.ts';

export const CONTRIB = 'com.microsoft';

export interface EmitOptions {
  readonly attributes?: Readonly<Record<string, OnnxAttribute>>;
  readonly domain?: string;
  /** Names of the outputs; by default one new name. */
  readonly outputs?: readonly string[];
}

const ARRAYS = {
  float32: Float32Array,
  int32: Int32Array,
  int64: BigInt64Array,
  bool: Uint8Array,
  uint8: Uint8Array,
  int8: Int8Array,
  uint16: Uint16Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
} satisfies Record<OnnxType, unknown>;

/** Where ONNX Runtime computes. */
export type Provider = 'cpu' | 'cuda' | 'webgpu';

/** What the factors and results of matrix products are rounded to; sums are float32 in both, and everything else is. */
export type Precision = 'float32' | 'bfloat16';

/** rows [m, k] -> [m, n] */
export type Scoring = (to: Lowering, rows: string) => string;

/** What a node reads, the graphs in its attributes included. */
const readBy = ({ inputs, attributes }: OnnxNode): string[] => [
  ...inputs,
  ...Object.values(attributes).flatMap(attribute =>
    'graph' in attribute ? attribute.graph.nodes.flatMap(readBy) : [],
  ),
];

/** Without those that nothing reads: a rule may have asked for a weight in a form that it then did not need. */
function neededNodes(nodes: readonly OnnxNode[], results: readonly string[]): OnnxNode[] {
  const read = new Set(results);
  const needed = nodes.toReversed().filter(node => {
    if (!node.outputs.some(output => read.has(output))) return false;
    for (const name of readBy(node)) read.add(name);
    return true;
  });
  return needed.reverse();
}

export interface LoweringOptions {
  readonly provider: Provider;
  readonly precision?: Precision;
  readonly sharedWeights?: boolean;
}

export class Lowering {
  /** Some nodes are not for every device. */
  readonly provider: Provider;
  readonly precision: Precision;
  /** Other programs use the weights too, so that this one has no copies of large ones that are arranged for its products. */
  readonly sharedWeights: boolean;
  readonly #parent: Lowering | null;
  readonly #nodes: OnnxNode[] = [];
  readonly #early: OnnxNode[] = [];
  #into = this.#nodes;
  readonly initializers: OnnxInitializer[] = [];
  readonly #names = new Map<Value, string>();
  readonly #makers = new Map<Value, () => string>();
  readonly #literals = new Map<string, string>();
  /** Products of rows and the transposes of weights in whole numbers, by the weights' names in float32. */
  readonly #scorings = new Map<string, Scoring>();
  /** Values in bfloat16 by their names in float32. */
  readonly #halves = new Map<string, string>();
  #last = 0;

  constructor(
    { provider, precision = 'float32', sharedWeights = false }: LoweringOptions,
    parent: Lowering | null = null,
  ) {
    this.provider = provider;
    this.precision = precision;
    this.sharedWeights = sharedWeights;
    this.#parent = parent;
  }

  /** A graph inside of this one (the body of a loop): it may use this one's names. */
  child(): Lowering {
    return new Lowering(this, this);
  }

  /** Unique within the outermost graph and all graphs inside of it. */
  fresh(hint: string): string {
    if (this.#parent) return this.#parent.fresh(hint);
    this.#last++;
    return `${hint}_${this.#last}`;
  }

  name(value: Value, hint = 'v'): string {
    const known = this.#names.get(value) ?? this.#makers.get(value)?.();
    if (known !== undefined) return known;
    const name = this.fresh(hint);
    this.#names.set(value, name);
    return name;
  }

  rename(value: Value, name: string): void {
    this.#names.set(value, name);
  }

  /** A value that is not there until a node asks for its name, each node anew. */
  provide(value: Value, make: () => string): void {
    this.#makers.set(value, make);
  }

  /** Adds a node; returns the name of its first output. */
  emit(
    op: string,
    inputs: readonly string[],
    { attributes = {}, domain = '', outputs }: EmitOptions = {},
  ): string {
    const names = outputs ?? [this.fresh(op.toLowerCase())];
    this.#into.push({ op, domain, inputs, outputs: names, attributes });
    return names[0]!;
  }

  /**
   * The nodes that `make` adds stand before all others. ONNX Runtime goes back from the outputs, and of a node's inputs first to the one
   * that stands last: what hangs on constants only must stand first to be computed just before it is used, not before everything else.
   */
  early(make: () => string): string {
    const into = this.#into;
    this.#into = this.#early;
    try {
      return make();
    } finally {
      this.#into = into;
    }
  }

  /** A constant of the lowering's own; equal ones are kept once. */
  literal(type: OnnxType, shape: readonly number[], numbers: readonly number[]): string {
    const key = `${type} [${shape}] ${numbers}`;
    const known = this.#literals.get(key);
    if (known !== undefined) return known;
    const name = this.fresh('c');
    const array = new ARRAYS[type](sizeOf(shape));
    numbers.forEach((number, i) => {
      array[i] = type === 'int64' ? BigInt(number) : number;
    });
    this.initializers.push({ name, type, shape, data: new Uint8Array(array.buffer) });
    this.#literals.set(key, name);
    return name;
  }

  int64(numbers: readonly number[]): string {
    return this.literal('int64', [numbers.length], numbers);
  }

  scalar(dtype: DType | 'int64', number: number): string {
    return this.literal(dtype, [], [number]);
  }

  cast(input: string, to: OnnxType, outputs?: readonly string[]): string {
    return this.emit('Cast', [input], { attributes: { to: { int: ONNX_TYPES[to] } }, outputs });
  }

  knowScoring(name: string, scoring: Scoring): void {
    this.#scorings.set(name, scoring);
  }

  scoring(name: string): Scoring | undefined {
    return this.#scorings.get(name) ?? this.#parent?.scoring(name);
  }

  /** `half` is what the value `name` is in bfloat16. */
  knowHalf(name: string, half: string): void {
    this.#halves.set(name, half);
  }

  #knownHalf(name: string): string | undefined {
    return this.#halves.get(name) ?? (this.#parent ? this.#parent.#knownHalf(name) : undefined);
  }

  /** A value in bfloat16, converted once for all who ask in this graph and those inside of it. */
  half(name: string): string {
    const known = this.#knownHalf(name);
    if (known !== undefined) return known;
    const half = this.cast(name, 'bfloat16');
    this.knowHalf(name, half);
    return half;
  }

  graph(name: string, inputs: readonly OnnxValue[], outputs: readonly OnnxValue[]): OnnxGraph {
    return {
      name,
      inputs,
      outputs,
      initializers: this.initializers,
      nodes: neededNodes(
        [...this.#early, ...this.#nodes],
        outputs.map(({ name }) => name),
      ),
    };
  }
}
