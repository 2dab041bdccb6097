// Low-rank adapters (https://arxiv.org/abs/2106.09685) as PEFT defines them: shapes, initial values, and what they add
// to a projection. It trains nothing and reads no files.
import type { Tensor } from '@tensorflow/tfjs';
import { tf } from '../engine/tf.ts';
import type { LinearLayer } from './architecture.ts';
import { listNames, ModelError } from './model-error.ts';

/** a [rank, in] and b [out, rank]. */
export interface LoraPair {
  readonly a: Tensor;
  readonly b: Tensor;
}

/**
 * What an adapter adds to a projection's output: scale b a x, with scale alpha / rank. x [rows, length, in] -> [rows,
 * length, out]. `mask` [rows, length, in] is dropout's, 0 or 1 / (1 - p); it affects the adapter's input only.
 */
export function loraDelta(x: Tensor, { a, b }: LoraPair, scale: number, mask?: Tensor | null): Tensor {
  const seen = mask ? tf.mul(x, mask) : x;
  return project(tf.mul(project(seen, a), scale), b);
}

/** x [rows, length, in], weight [out, in] (`transposed`: [in, out]) -> [rows, length, out], as one matrix product. */
export function project(x: Tensor, weight: Tensor, transposed = false): Tensor {
  const [rows, length, inFeatures] = x.shape as [number, number, number];
  const flat = tf.reshape(x, [rows * length, inFeatures]);
  const product = tf.matMul(flat, weight as typeof flat, false, !transposed);
  return tf.reshape(product, [rows, length, product.shape[1]!]);
}

export const loraShapes = (
  layer: LinearLayer,
  rank: number,
): { a: [number, number]; b: [number, number] } => ({
  a: [rank, layer.inFeatures],
  b: [layer.outFeatures, rank],
});

/**
 * PEFT's initial values: a uniform within 1 / sqrt(in) (Kaiming with slope sqrt 5), b zero, so that training starts at
 * the base model.
 */
export function initialLora(
  layer: LinearLayer,
  rank: number,
  uniform: () => number,
): { a: Float32Array; b: Float32Array } {
  const bound = 1 / Math.sqrt(layer.inFeatures);
  return {
    a: Float32Array.from({ length: rank * layer.inFeatures }, () => (2 * uniform() - 1) * bound),
    b: new Float32Array(layer.outFeatures * rank),
  };
}

/** A layer's name in `target_modules`: `q_proj` of `model.layers.0.self_attn.q_proj`. */
const moduleName = (layer: LinearLayer): string => layer.name.slice(layer.name.lastIndexOf('.') + 1);

/** Every name that `target_modules` may hold, once each, in the model's order. */
export const moduleNames = (layers: readonly LinearLayer[]): string[] => [...new Set(layers.map(moduleName))];

/**
 * The layers that `target_modules` selects, matched like PEFT: a whole path, or its end after a dot. In the model's
 * order. Throws ModelError for a name that matches nothing, and lists those that would.
 */
export function selectLayers(
  layers: readonly LinearLayer[],
  targetModules: readonly string[] | 'all-linear',
): LinearLayer[] {
  if (targetModules === 'all-linear') return [...layers];
  const unknown = targetModules.filter(target => !layers.some(layer => isTarget(layer, target)));
  if (unknown.length > 0 || targetModules.length === 0) {
    const problem = unknown.length > 0 ? `${listNames(unknown)} matches no layer` : 'is empty';
    throw new ModelError(`target_modules: ${problem}; known are ${moduleNames(layers).join(', ')}`);
  }
  return layers.filter(layer => targetModules.some(target => isTarget(layer, target)));
}

const isTarget = ({ name }: LinearLayer, target: string): boolean =>
  name === target || name.endsWith(`.${target}`);
