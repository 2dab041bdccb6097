// Rotary position embeddings: the frequencies a config asks for, and their angles. Turning queries and keys is an engine op.
import type { Tensor } from '@tensorflow/tfjs';
import { tf } from '../engine/tf.ts';
import { type ConfigJson, readChoice, readCount, readObject, readPositive, refuse } from './config-fields.ts';
import { ModelError } from './model-error.ts';

type RopeType = 'default' | 'linear' | 'llama3';
const ROPE_TYPES = ['default', 'linear', 'llama3'] as const;

/** A scaled frequency from a plain one; float32 at every step, as transformers computes it. */
const SCALINGS = {
  default: () => frequency => frequency,
  linear: rope => {
    const factor = readPositive(rope, 'factor');
    return frequency => Math.fround(frequency / factor);
  },
  llama3: scaleLlama3,
} satisfies Record<RopeType, (rope: ConfigJson) => (frequency: number) => number>;

/** Llama 3.1: low frequencies divided by `factor`, high ones kept, those between blended. */
function scaleLlama3(rope: ConfigJson): (frequency: number) => number {
  const factor = readPositive(rope, 'factor');
  const low = readPositive(rope, 'low_freq_factor');
  const high = readPositive(rope, 'high_freq_factor');
  const context = readCount(rope, 'original_max_position_embeddings');
  return frequency => {
    const wavelength = (2 * Math.PI) / frequency;
    if (wavelength > context / low) return Math.fround(frequency / factor);
    if (wavelength < context / high) return frequency;
    const smooth = (context / wavelength - low) / (high - low);
    return Math.fround((1 - smooth) * (frequency / factor) + smooth * frequency);
  };
}

/**
 * [headDim / 2] angles per position. Reads both spellings: `rope_theta` with `rope_scaling` (transformers 4) and
 * `rope_parameters` (transformers 5).
 */
export function readFrequencies(json: ConfigJson, headDim: number): Float32Array {
  const rope = readRope(json);
  refuse(rope, 'partial_rotary_factor', 1);
  const theta = readPositive(rope, 'rope_theta', 10_000);
  const scaled = SCALINGS[readChoice(rope, 'rope_type', ROPE_TYPES, 'default')](rope);
  return Float32Array.from({ length: headDim / 2 }, (_, i) => {
    const power = Math.fround(theta ** Math.fround((2 * i) / headDim));
    return scaled(Math.fround(1 / power));
  });
}

function readRope(json: ConfigJson): ConfigJson {
  const given = readObject(json, 'rope_scaling') ?? readObject(json, 'rope_parameters') ?? {};
  // transformers 5 can nest one set per kind of layer; no model served here has more than one.
  const nested = Object.keys(given).find(name => typeof given[name] === 'object' && given[name] !== null);
  if (nested) throw new ModelError(`config.json: rope_parameters per layer type (${nested}) are not served`);
  return {
    ...given,
    rope_type: given.rope_type ?? given.type,
    rope_theta: given.rope_theta ?? json.rope_theta,
    partial_rotary_factor: given.partial_rotary_factor ?? json.partial_rotary_factor,
    original_max_position_embeddings:
      json.original_max_position_embeddings ??
      given.original_max_position_embeddings ??
      json.max_position_embeddings,
  };
}

export interface Angles {
  /** [rows, length, headDim / 2] each. */
  readonly cos: Tensor;
  readonly sin: Tensor;
}

/** positions [rows, length] int32. */
export function rotaryAngles(positions: Tensor, frequencies: Float32Array): Angles {
  const [rows, length] = positions.shape as [number, number];
  const column = tf.reshape(tf.cast(positions, 'float32'), [rows, length, 1]);
  const angles = tf.mul(column, tf.tensor1d(frequencies));
  return { cos: tf.cos(angles), sin: tf.sin(angles) };
}
