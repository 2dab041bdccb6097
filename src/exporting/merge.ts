// Merges an adapter into a model's weights, for programs that know no adapters. It writes no files.
import type { StoredTensor } from '../engine/program.ts';
import type { Adapter, LoraArrays } from '../formats/peft.ts';
import { readTensor } from '../formats/safetensors.ts';
import type { LinearLayer } from '../models/architecture.ts';
import type { Model } from '../models/registry.ts';

export interface MergedTensor {
  readonly shape: readonly number[];
  readonly dtype: StoredTensor['dtype'];
  /** float32; rounded once, where it is written. */
  data(): Promise<Float32Array>;
}

/** weight + scale * b a, summed in float64. */
export function addAdapter(
  { inFeatures, outFeatures, transposed }: LinearLayer,
  weight: Float32Array,
  { a, b }: LoraArrays,
  { rank, scale }: Pick<Adapter, 'rank' | 'scale'>,
): Float32Array {
  const merged = new Float32Array(weight.length);
  const row = new Float64Array(inFeatures);
  for (let out = 0; out < outFeatures; out++) {
    row.fill(0);
    for (let r = 0; r < rank; r++) {
      const factor = scale * b[out * rank + r]!;
      for (let from = 0; from < inFeatures; from++)
        row[from] = row[from]! + factor * a[r * inFeatures + from]!;
    }
    for (let from = 0; from < inFeatures; from++) {
      const at = transposed ? from * outFeatures + out : out * inFeatures + from;
      merged[at] = weight[at]! + row[from]!;
    }
  }
  return merged;
}

/** Every tensor of the model by name, in its stored type. */
export function mergedTensors(model: Model, adapter: Adapter | null): Record<string, MergedTensor> {
  const adapted = new Map(
    model.linearLayers.filter(({ name }) => adapter?.layers[name]).map(layer => [layer.weight, layer]),
  );
  const toMerged = ([name, stored]: [string, StoredTensor]): [string, MergedTensor] => {
    const layer = adapted.get(name);
    const { shape, dtype } = stored;
    const data = async () =>
      layer && adapter
        ? addAdapter(layer, await readTensor(stored), adapter.layers[layer.name]!, adapter)
        : readTensor(stored);
    return [name, { shape, dtype, data }];
  };
  return Object.fromEntries(Object.entries(model.weights).map(toMerged));
}
