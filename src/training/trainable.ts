// What a run trains, LoRA adapters or every weight: names, shapes and initial values.

import type { StoredTensor } from '../engine/program.ts';
import type { Adapter } from '../formats/peft.ts';
import { readTensor } from '../formats/safetensors.ts';
import type { LinearLayer } from '../models/architecture.ts';
import { initialLora, loraShapes, selectLayers } from '../models/lora.ts';
import type { Model } from '../models/registry.ts';
import type { Objective } from './objectives/objective.ts';
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

/** Weight decay applies to matrices, not to biases and norms. */
const fullParameters = (model: Model, unused: readonly string[]): Parameter[] =>
  Object.entries(model.weights)
    .filter(([name]) => !unused.includes(name) && name !== model.logitBias)
    .map(([name, { shape }]) => ({ name, shape, decays: shape.length > 1 }));

/** Weights that full fine-tuning does not train: the bias of the logits, which is a buffer in transformers. */
export const fixedWeights = ({ weights, logitBias }: Model): Record<string, StoredTensor> =>
  logitBias === null ? {} : { [logitBias]: weights[logitBias]! };

/** The head's parameters come last, among those with weight decay and those without. */
export const stateLayoutOf = (model: Model, tuning: Tuning, { head, unused }: Objective): StateLayout =>
  layOutState([
    ...(tuning.kind === 'full' ? fullParameters(model, unused) : loraParameters(tuning)),
    ...(head?.parameters ?? []),
  ]);

/** Uniform random numbers in [0, 1), a separate stream per adapted layer. */
function uniformOf(seed: number, layerIndex: number, count: number): () => number {
  const bits = fillBits(new Uint32Array(count), { seed, purpose: 'adapter', at: [layerIndex, 0, 0] });
  let next = 0;
  return () => bits[next++]! / 0x100000000;
}

export interface Start {
  readonly model: Model;
  readonly tuning: Tuning;
  readonly objective: Objective;
  /** The adapter that the run starts from; it has the tuning's layers and rank. */
  readonly adapter: Adapter | null;
  readonly seed: number;
}

/**
 * Initial values: the model's weights, the adapter's, or a new adapter that changes nothing yet (A random, B zero); and
 * those of the head.
 */
export async function firstValues(start: Start, layout: StateLayout): Promise<Float32Array> {
  const flat = new Float32Array(layout.size);
  const views = viewsOf(flat, layout);
  const { model, tuning, adapter, objective, seed } = start;
  if (tuning.kind === 'full') {
    for (const [name, stored] of Object.entries(model.weights)) views[name]?.set(await readTensor(stored));
  } else {
    tuning.layers.forEach((layer, index) => {
      const { a, b } = adapter?.layers[layer.name] ?? freshLora(layer, tuning.rank, seed, index);
      views[loraNames(layer).a]!.set(a);
      views[loraNames(layer).b]!.set(b);
    });
  }
  for (const [name, values] of Object.entries((await objective.head?.firstValues(seed)) ?? {}))
    views[name]!.set(values);
  return flat;
}

const freshLora = (layer: LinearLayer, rank: number, seed: number, index: number) =>
  initialLora(layer, rank, uniformOf(seed, index, rank * layer.inFeatures));
