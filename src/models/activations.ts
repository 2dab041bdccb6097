// The activation functions that configs name. Which of them a model may use is up to its architecture.
import type { Tensor } from '@tensorflow/tfjs';
import { gelu, geluExact, silu } from '../engine/ops.ts';
import { tf } from '../engine/tf.ts';
import { type ConfigJson, readChoice } from './config-fields.ts';

export type Activation = (x: Tensor) => Tensor;

/** transformers' names; see its activations.py. */
const ACTIVATIONS = {
  gelu: geluExact,
  gelu_new: gelu,
  gelu_fast: gelu,
  gelu_pytorch_tanh: gelu,
  silu,
  swish: silu,
  relu: x => tf.relu(x),
} satisfies Record<string, Activation>;

type ActivationName = keyof typeof ACTIVATIONS;

export const ACTIVATION_NAMES = Object.keys(ACTIVATIONS) as ActivationName[];

export const readActivation = (json: ConfigJson, field: string, fallback: ActivationName): Activation =>
  ACTIVATIONS[readChoice(json, field, ACTIVATION_NAMES, fallback)];
