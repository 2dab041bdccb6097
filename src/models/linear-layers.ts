// Describes linear layers, and the tensors that they and layer norms have in files. Linear layers are computed in packed.ts and by the
// serving step.
import type { LinearLayer } from './architecture.ts';

/** A `torch.nn.Linear`: weight [out, in]. */
export const linearLayer = (
  name: string,
  inFeatures: number,
  outFeatures: number,
  bias = false,
): LinearLayer => ({
  name,
  weight: `${name}.weight`,
  bias: bias ? `${name}.bias` : null,
  inFeatures,
  outFeatures,
  transposed: false,
});

export type NamedShape = readonly [name: string, shape: readonly number[]];

/** Weights and biases with their shapes. */
export const linearTensors = (layers: readonly LinearLayer[]): NamedShape[] =>
  layers.flatMap(({ weight, bias, inFeatures, outFeatures, transposed }): NamedShape[] => [
    [weight, transposed ? [inFeatures, outFeatures] : [outFeatures, inFeatures]],
    ...(bias ? [[bias, [outFeatures]] as const] : []),
  ]);

/** A layer norm's weight and bias with their shapes. */
export const normTensors = (path: string, size: number): NamedShape[] => [
  [`${path}.weight`, [size]],
  [`${path}.bias`, [size]],
];
