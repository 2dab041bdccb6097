// Rotary position embeddings: the frequencies of a config, their angles, and which part of a head is rotated. The
// rotation itself is an engine op.
import type { Tensor } from '@tensorflow/tfjs';
import { rotary } from '../engine/ops.ts';
import { tf } from '../engine/tf.ts';
import { type ConfigJson, readChoice, readCount, readObject, readPositive, refuse } from './config-fields.ts';
import { ModelError } from './model-error.ts';

export interface Rope {
  /** Radians per position, for each rotated pair of a head's elements. */
  readonly frequencies: Float32Array;
  /** Scale of cosines and sines. */
  readonly scale: number;
  /** Number of positions it is valid for; null: any. */
  readonly limit: number | null;
}

type RopeType = 'default' | 'linear' | 'llama3' | 'longrope';

interface Scaling {
  /** Maps an unscaled frequency to the scaled one; rounded to float32 at every step, like transformers. */
  frequency(plain: number, pair: number): number;
  readonly scale?: number;
  readonly limit?: number;
}

const SCALINGS = {
  default: () => ({ frequency: plain => plain }),
  linear: rope => {
    const factor = readPositive(rope, 'factor');
    return { frequency: plain => Math.fround(plain / factor) };
  },
  llama3: scaleLlama3,
  longrope: scaleLongrope,
} satisfies Record<RopeType, (rope: ConfigJson) => Scaling>;

/** Llama 3.1: low frequencies are divided by `factor`, high ones kept, those in between interpolated. */
function scaleLlama3(rope: ConfigJson): Scaling {
  const factor = readPositive(rope, 'factor');
  const low = readPositive(rope, 'low_freq_factor');
  const high = readPositive(rope, 'high_freq_factor');
  const context = readCount(rope, 'original_max_position_embeddings');
  return {
    frequency(plain) {
      const wavelength = (2 * Math.PI) / plain;
      if (wavelength > context / low) return Math.fround(plain / factor);
      if (wavelength < context / high) return plain;
      const smooth = (context / wavelength - low) / (high - low);
      return Math.fround((1 - smooth) * (plain / factor) + smooth * plain);
    },
  };
}

/**
 * LongRoPE (https://arxiv.org/abs/2402.13753) within the original context length: every frequency is divided by its
 * short factor. Longer texts would use the long factors from their first token on, so they are beyond `limit`.
 */
function scaleLongrope(rope: ConfigJson): Scaling {
  const limit = readCount(rope, 'original_max_position_embeddings');
  const factors = rope.short_factor;
  if (!Array.isArray(factors) || !factors.every(factor => typeof factor === 'number' && factor > 0)) {
    throw new ModelError('config.json: short_factor of longrope must be a list of positive numbers');
  }
  const stretch = readPositive(rope, 'factor', readCount(rope, 'max_position_embeddings') / limit);
  const scale = stretch > 1 ? Math.sqrt(1 + Math.log(stretch) / Math.log(limit)) : 1;
  return {
    frequency(plain, pair) {
      if (pair < factors.length) return Math.fround(plain / factors[pair]);
      throw new ModelError(`config.json: short_factor of longrope has only ${factors.length} entries`);
    },
    scale: readPositive(rope, 'attention_factor', scale),
    limit,
  };
}

/** Differences between architectures. */
export interface RopeOptions {
  /** Default when the config has none. */
  readonly theta?: number;
  /** Default fraction of a head that is rotated; null: all of it, and a config must not say otherwise. */
  readonly partial?: number | null;
  readonly types?: readonly RopeType[];
}

/**
 * Reads both spellings: `rope_theta` with `rope_scaling` (transformers 4) and `rope_parameters` (transformers 5).
 * Throws ModelError for unsupported settings.
 */
export function readRope(
  json: ConfigJson,
  headDim: number,
  { theta = 10_000, partial = null, types = ['default', 'linear', 'llama3'] }: RopeOptions = {},
): Rope {
  const rope = ropeFields(json);
  if (partial === null) refuse(rope, 'partial_rotary_factor', 1);
  const turned = Math.floor(headDim * readPositive(rope, 'partial_rotary_factor', partial ?? 1));
  if (turned % 2 !== 0 || turned > headDim) {
    throw new ModelError(
      `config.json: partial_rotary_factor turns ${turned} of ${headDim} elements of a head`,
    );
  }
  const base = readPositive(rope, 'rope_theta', theta);
  const scaling: Scaling = SCALINGS[readChoice(rope, 'rope_type', types, 'default')](rope);
  const frequencies = Float32Array.from({ length: turned / 2 }, (_, i) => {
    const power = Math.fround(base ** Math.fround((2 * i) / turned));
    return scaling.frequency(Math.fround(1 / power), i);
  });
  return { frequencies, scale: scaling.scale ?? 1, limit: scaling.limit ?? null };
}

function ropeFields(json: ConfigJson): ConfigJson {
  const given = readObject(json, 'rope_scaling') ?? readObject(json, 'rope_parameters') ?? {};
  // transformers 5 can nest one set per layer kind; architectures with kinds pass them one by one.
  const isKind = (value: unknown) => typeof value === 'object' && value !== null && !Array.isArray(value);
  const nested = Object.keys(given).find(name => isKind(given[name]));
  if (nested)
    throw new ModelError(`config.json: rope_parameters per layer type (${nested}) are not supported`);
  return {
    ...given,
    rope_type: given.rope_type ?? given.type,
    rope_theta: given.rope_theta ?? json.rope_theta,
    partial_rotary_factor: given.partial_rotary_factor ?? json.partial_rotary_factor,
    max_position_embeddings: json.max_position_embeddings,
    original_max_position_embeddings:
      json.original_max_position_embeddings ??
      given.original_max_position_embeddings ??
      json.max_position_embeddings,
  };
}

export interface Angles {
  /** [rows, length, pairs] each. */
  readonly cos: Tensor;
  readonly sin: Tensor;
}

/** positions [rows, length] int32. */
export function rotaryAngles(positions: Tensor, { frequencies, scale }: Rope): Angles {
  const [rows, length] = positions.shape as [number, number];
  const column = tf.reshape(tf.cast(positions, 'float32'), [rows, length, 1]);
  const angles = tf.mul(column, tf.tensor1d(frequencies));
  const scaled = (x: Tensor): Tensor => (scale === 1 ? x : tf.mul(x, scale));
  return { cos: scaled(tf.cos(angles)), sin: scaled(tf.sin(angles)) };
}

/** x [rows, heads, length, headDim]: rotates the first elements, as many as there are angles for; the others stay. */
export function turnHeads(x: Tensor, { cos, sin }: Angles): Tensor {
  const turned = 2 * cos.shape[2]!;
  const rest = x.shape[3]! - turned;
  if (rest === 0) return rotary(x, cos, sin);
  const [first, last] = tf.split(x, [turned, rest], 3) as [Tensor, Tensor];
  return tf.concat([rotary(first, cos, sin), last], 3);
}
