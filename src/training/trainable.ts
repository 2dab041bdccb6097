// What a run trains: low-rank adapters or every weight. Their names, shapes and first values; nothing is trained here.
import type { Adapter } from '../formats/peft.ts';
import { readTensor } from '../formats/safetensors.ts';
import type { LinearLayer } from '../models/architecture.ts';
import { initialLora, loraShapes, selectLayers } from '../models/lora.ts';
import type { Model } from '../models/registry.ts';
import type { ResolvedHyperparameters } from './protocol.ts';
import { fillBits } from './random.ts';
import { layOutState, type Parameter, type StateLayout, viewsOf } from './state.ts';

export interface LoraTuning {
  readonly kind: 'lora';
  readonly layers: readonly LinearLayer[];
  readonly rank: number;
  readonly alpha: number;
  readonly dropout: number;
}

export type Tuning = LoraTuning | { readonly kind: 'full' };

type Chosen = Pick<ResolvedHyperparameters, 'adapter' | 'rank' | 'alpha' | 'dropout' | 'target_modules'>;

export const tuningOf = (model: Model, chosen: Chosen): Tuning =>
  chosen.adapter === 'full'
    ? { kind: 'full' }
    : {
        kind: 'lora',
        layers: selectLayers(model.linearLayers, chosen.target_modules),
        rank: chosen.rank,
        alpha: chosen.alpha,
        dropout: chosen.dropout,
      };

export const loraNames = (layer: LinearLayer) => ({ a: `${layer.name}.lora_A`, b: `${layer.name}.lora_B` });

function loraParameters({ layers, rank }: LoraTuning): Parameter[] {
  return layers.flatMap(layer => {
    const names = loraNames(layer);
    const shapes = loraShapes(layer, rank);
    return [
      { name: names.a, shape: shapes.a, decays: true },
      { name: names.b, shape: shapes.b, decays: true },
    ];
  });
}

/** Matrices decay; biases and norms, which have one axis, do not. */
const fullParameters = (model: Model): Parameter[] =>
  Object.entries(model.weights).map(([name, { shape }]) => ({ name, shape, decays: shape.length > 1 }));

export const stateLayoutOf = (model: Model, tuning: Tuning): StateLayout =>
  layOutState(tuning.kind === 'full' ? fullParameters(model) : loraParameters(tuning));

/** Numbers uniform in [0, 1), a stream of their own for every adapted layer. */
function uniformOf(seed: number, layerIndex: number, count: number): () => number {
  const bits = fillBits(new Uint32Array(count), { seed, purpose: 'adapter', at: [layerIndex, 0, 0] });
  let next = 0;
  return () => bits[next++]! / 0x100000000;
}

/** A model whose weights are the start, or fresh adapters that change nothing yet: a random, b zero. */
export async function firstValues(
  model: Model,
  tuning: Tuning,
  layout: StateLayout,
  seed: number,
): Promise<Float32Array> {
  const flat = new Float32Array(layout.size);
  const views = viewsOf(flat, layout);
  if (tuning.kind === 'full') {
    for (const [name, view] of Object.entries(views)) view.set(await readTensor(model.weights[name]!));
    return flat;
  }
  tuning.layers.forEach((layer, index) => {
    const { a, b } = initialLora(layer, tuning.rank, uniformOf(seed, index, tuning.rank * layer.inFeatures));
    views[loraNames(layer).a]!.set(a);
    views[loraNames(layer).b]!.set(b);
  });
  return flat;
}

/** The numbers of an adapter that the run goes on from; `tuning` has its layers and its rank. */
export function startFromAdapter(adapter: Adapter, tuning: LoraTuning, layout: StateLayout): Float32Array {
  const flat = new Float32Array(layout.size);
  const views = viewsOf(flat, layout);
  for (const layer of tuning.layers) {
    const { a, b } = adapter.layers[layer.name]!;
    views[loraNames(layer).a]!.set(a);
    views[loraNames(layer).b]!.set(b);
  }
  return flat;
}
