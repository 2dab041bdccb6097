// The state of a lowering: names of values, and the nodes and small constants emitted so far. Which nodes an op becomes
// is in rules.ts.
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
  /** Names of the outputs; default: one fresh name. */
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

/** ONNX Runtime's execution provider. */
export type Provider = 'cpu' | 'cuda' | 'webgpu';

/** What operands and results of matrix products are rounded to. Accumulation and all other ops are float32. */
export type Precision = 'float32' | 'bfloat16';

/** rows [m, k] -> [m, n] */
export type Scoring = (to: Lowering, rows: string) => string;

/** The values a node reads, including those read by subgraphs in its attributes. */
const readBy = ({ inputs, attributes }: OnnxNode): string[] => [
  ...inputs,
  ...Object.values(attributes).flatMap(attribute =>
    'graph' in attribute ? attribute.graph.nodes.flatMap(readBy) : [],
  ),
];

/** Drops nodes that nothing reads: a rule may have asked for a form of a weight that it then did not need. */
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
  /** Some ops are lowered differently per provider. */
  readonly provider: Provider;
  readonly precision: Precision;
  /** Other programs use the weights too, so this one keeps no private pre-packed copies of large ones. */
  readonly sharedWeights: boolean;
  readonly #parent: Lowering | null;
  readonly #nodes: OnnxNode[] = [];
  readonly #early: OnnxNode[] = [];
  #into = this.#nodes;
  readonly initializers: OnnxInitializer[] = [];
  readonly #names = new Map<Value, string>();
  readonly #makers = new Map<Value, () => string>();
  readonly #literals = new Map<string, string>();
  /** Integer logits of output layers, by the name of the layer's float32 weight. */
  readonly #scorings = new Map<string, Scoring>();
  /** bfloat16 versions of values, by the names of the float32 values. */
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

  /** A subgraph (the body of a loop); it may read this graph's values. */
  child(): Lowering {
    return new Lowering(this, this);
  }

  /** A name that is unique in the outermost graph and all its subgraphs. */
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

  /** A value that is made on demand, anew for each node that asks for its name. */
  provide(value: Value, make: () => string): void {
    this.#makers.set(value, make);
  }

  /** Emits a node; returns the name of its first output. */
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
   * Puts the nodes that `make` emits before all others. ONNX Runtime orders nodes by a depth-first search from the
   * outputs, visiting the inputs that come last in the model first. A node that depends only on constants must come
   * first to be computed right before its use, not before everything else.
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

  /** A constant; equal ones are stored once. */
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

  /** Registers `half` as the bfloat16 version of `name`. */
  knowHalf(name: string, half: string): void {
    this.#halves.set(name, half);
  }

  #knownHalf(name: string): string | undefined {
    return this.#halves.get(name) ?? (this.#parent ? this.#parent.#knownHalf(name) : undefined);
  }

  /** The bfloat16 version of a value, converted once per graph and its subgraphs. */
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
