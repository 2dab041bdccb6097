// Embeds token sequences with one model, for many requests at once: sequences of similar length share a run. Tokenizing is left to callers.
import { setImmediate } from 'node:timers/promises';
import type { Engine, HostArrays, Program, TensorSpec, Tensors } from '../engine/program.ts';
import { tf } from '../engine/tf.ts';
import type { LinearLayer } from '../models/architecture.ts';
import { loraShapes } from '../models/lora.ts';
import { type PackedAdapter, packedLayers } from '../models/packed.ts';
import { fillPooling, normalized, type Pooling } from '../models/pooling.ts';
import { readTexts } from '../models/read-texts.ts';
import type { Model } from '../models/registry.ts';
import type { LoadedAdapter } from './adapter-stack.ts';
import { cachePrograms, type ProgramCache } from './programs.ts';

export interface EmbedRequest {
  /** At least one token, at most as many as the pooling allows. */
  readonly tokens: readonly number[];
  readonly adapter: LoadedAdapter | null;
  readonly signal?: AbortSignal;
}

/** Bucketed, because each shape is a compiled program; the longest is capped at the model's positions. */
const ROW_BUCKETS = [1, 2, 4, 8, 16, 32];
const LENGTH_BUCKETS = [16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192];
/** Tokens of a run over all rows; a longer text gets a run of its own. */
const MAX_RUN_TOKENS = 4096;
const MAX_PROGRAMS = 32;

interface Waiting extends EmbedRequest {
  resolve(vector: Float32Array): void;
  reject(error: unknown): void;
}

interface RunShape {
  readonly rows: number;
  readonly length: number;
  readonly adapter: LoadedAdapter | null;
}

export class Embedder {
  readonly model: Model;
  readonly pooling: Pooling;
  readonly #programs: ProgramCache<RunShape>;
  #waiting: Waiting[] = [];
  #loop: Promise<void> | null = null;
  #closed = false;

  constructor(engine: Engine, model: Model, pooling: Pooling) {
    this.model = model;
    this.pooling = pooling;
    this.#programs = cachePrograms({
      engine,
      keyOf: ({ rows, length, adapter }) => [rows, length, ...adapterKey(adapter)].join(),
      build: shape => embeddingProgram(model, shape),
      limit: MAX_PROGRAMS,
    });
  }

  /** -> [hiddenSize]. Rejects with the signal's reason when aborted. */
  embed(request: EmbedRequest): Promise<Float32Array> {
    const { length } = request.tokens;
    if (length === 0 || length > this.pooling.maxTokens)
      throw new RangeError(
        `a text of ${length} tokens for a model that takes 1 to ${this.pooling.maxTokens}`,
      );
    return new Promise((resolve, reject) => {
      this.#waiting.push({ ...request, resolve, reject });
      this.#loop ??= this.#run().finally(() => {
        this.#loop = null;
      });
    });
  }

  /** Rejects waiting requests. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#loop;
    await this.#programs.close();
  }

  async #run(): Promise<void> {
    // Batches the requests of one turn of the event loop.
    await setImmediate();
    while (this.#waiting.length > 0) {
      this.#drop(({ signal }) => signal?.aborted ?? false);
      if (this.#closed) this.#drop(() => true);
      const [first] = this.#waiting;
      if (!first) return;
      const length = this.#lengthBucket(first);
      const limit = Math.min(ROW_BUCKETS.at(-1)!, Math.max(1, Math.floor(MAX_RUN_TOKENS / length)));
      const alike = (each: Waiting) => each.adapter === first.adapter && this.#lengthBucket(each) === length;
      const taken = new Set(this.#waiting.filter(alike).slice(0, limit));
      this.#waiting = this.#waiting.filter(each => !taken.has(each));
      await this.#runTogether([...taken], length);
      await setImmediate();
    }
  }

  #drop(isOver: (waiting: Waiting) => boolean): void {
    const over = this.#waiting.filter(isOver);
    this.#waiting = this.#waiting.filter(each => !over.includes(each));
    for (const { signal, reject } of over) reject(signal?.reason ?? new Error('the embedder was closed'));
  }

  #lengthBucket({ tokens }: Waiting): number {
    const { maxPositions } = this.model.shape;
    return Math.min(LENGTH_BUCKETS.find(size => size >= tokens.length)!, maxPositions);
  }

  async #runTogether(taken: readonly Waiting[], length: number): Promise<void> {
    try {
      const rows = ROW_BUCKETS.find(size => size >= taken.length)!;
      const { adapter } = taken[0]!;
      const program = await this.#programs.get({ rows, length, adapter });
      const { pooled } = await program.run({
        ...rowInputs(taken, { rows, length }, this.pooling),
        ...adapterInputs(adapter),
      });
      const width = this.model.shape.hiddenSize;
      taken.forEach(({ resolve }, row) => {
        const vector = (pooled as Float32Array).slice(row * width, (row + 1) * width);
        resolve(this.pooling.normalize ? normalized(vector) : vector);
      });
    } catch (error) {
      for (const { reject } of taken) reject(error);
    }
  }
}

const adapterKey = (adapter: LoadedAdapter | null): (string | number)[] =>
  adapter ? [adapter.rank, ...Object.keys(adapter.layers)] : [];

/** Rows are right-padded; padding is a segment of its own, so that texts do not attend to it. */
function rowInputs(
  taken: readonly Waiting[],
  { rows, length }: Pick<RunShape, 'rows' | 'length'>,
  { mode }: Pooling,
): HostArrays {
  const [tokens, positions] = [new Int32Array(rows * length), new Int32Array(rows * length)];
  const segments = new Int32Array(rows * length).fill(-1);
  const pooling = new Float32Array(rows * length);
  taken.forEach(({ tokens: own }, row) => {
    const [start, end] = [row * length, row * length + own.length];
    tokens.set(own, start);
    positions.set([...own.keys()], start);
    segments.fill(0, start, end);
    fillPooling(mode, pooling.subarray(start, end));
  });
  return { tokens, positions, segments, pooling };
}

function adapterInputs(adapter: LoadedAdapter | null): HostArrays {
  const pairs = Object.entries(adapter?.layers ?? {});
  return Object.fromEntries(
    pairs.flatMap(([name, { a, b }]) => [
      [`a.${name}`, a],
      [`b.${name}`, b],
    ]),
  );
}

/**
 * Inputs: tokens, positions, segments [rows, length] int32; pooling weights [rows, length]; the adapter's `a.layer` [rank, in] and
 * `b.layer` [out, rank], scaled by alpha / rank. Output: pooled [rows, hiddenSize].
 */
function embeddingProgram(model: Model, { rows, length, adapter }: RunShape): Program {
  const int32: TensorSpec = { shape: [rows, length], dtype: 'int32' };
  const adapted = model.linearLayers.filter(({ name }) => adapter?.layers[name]);
  return {
    name: `${model.architecture} embeddings ${rows}x${length}`,
    inputs: {
      tokens: int32,
      positions: int32,
      segments: int32,
      pooling: { shape: [rows, length], dtype: 'float32' },
      ...adapterSpecs(adapted, adapter?.rank ?? 0),
    },
    weights: model.weights,
    sharesWeights: true,
    run(inputs, weights) {
      const { linearLayers } = model;
      const adapter = adapted.length > 0 ? packedAdapter(adapted, inputs) : null;
      const hidden = readTexts(model, inputs, (segments, source) =>
        packedLayers({ linearLayers, weights, segments, adapter, source }),
      );
      const pooled = tf.matMul(tf.reshape(inputs.pooling!, [rows, 1, length]), hidden as never);
      return { pooled: tf.reshape(pooled, [rows, model.shape.hiddenSize]) };
    },
  };
}

function adapterSpecs(adapted: readonly LinearLayer[], rank: number): Record<string, TensorSpec> {
  return Object.fromEntries(
    adapted.flatMap((layer): [string, TensorSpec][] => {
      const { a, b } = loraShapes(layer, rank);
      return [
        [`a.${layer.name}`, { shape: a, dtype: 'float32' }],
        [`b.${layer.name}`, { shape: b, dtype: 'float32' }],
      ];
    }),
  );
}

const packedAdapter = (adapted: readonly LinearLayer[], inputs: Tensors): PackedAdapter => ({
  scale: 1,
  pairs: Object.fromEntries(
    adapted.map(({ name }) => [name, { a: inputs[`a.${name}`]!, b: inputs[`b.${name}`]! }]),
  ),
});
