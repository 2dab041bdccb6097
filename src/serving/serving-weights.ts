// A copy on disk of the weights that a CPU would convert or transpose at every step: float32, linear layers [out, in].
// All programs map the same pages. Values are unchanged: bf16 and f16 are exact in float32.
// Measured: a step of 160M bf16 parameters on one core takes 136 ms converting and 55 ms with the copy; of GPT-2's 124M, stored
// [in, out], on two cores 62 ms without and 38 ms with the copy for 8 rows, 98 and 74 ms for 32.
import { sizeOf, transpose } from '../engine/arrays.ts';
import type { StoredTensor } from '../engine/program.ts';
import { readTensor, type TensorToWrite } from '../formats/safetensors.ts';
import type { LinearLayer } from '../models/architecture.ts';
import type { Model } from '../models/registry.ts';
import { openCopy } from '../models/weight-copies.ts';

/** Below this, engines keep copies of their own. */
const MIN_BYTES = 32 * 2 ** 20;

const TURNED = '.turned';
const isTurned = (name: string): boolean => name.endsWith(TURNED);

/** Quantized: its matrix products read codes. */
const isInFewBits = ({ quantized, scoring }: StoredTensor): boolean => Boolean(quantized ?? scoring);

const isToTurn = ({ transposed }: LinearLayer, stored: StoredTensor): boolean =>
  transposed && !isInFewBits(stored);

function toWrite(name: string, stored: StoredTensor): TensorToWrite {
  if (!isTurned(name)) return { dtype: 'F32', shape: stored.shape, data: stored };
  const data = async () => transpose(await readTensor(stored), stored.shape);
  return { dtype: 'F32', shape: stored.shape.toReversed(), data };
}

/** Names in the copy -> source tensors. */
function copiedFrom({ weights }: Model, turned: ReadonlySet<string>): Record<string, StoredTensor> {
  const copied = Object.entries(weights).filter(
    ([name, stored]) => turned.has(name) || (stored.dtype !== 'F32' && !isInFewBits(stored)),
  );
  return Object.fromEntries(
    copied.map(([name, stored]) => [turned.has(name) ? name + TURNED : name, stored]),
  );
}

/** The model with these weights from a copy below `directory`, created if missing; the model itself if it has few. */
export async function copyForServing(model: Model, directory: string, minBytes = MIN_BYTES): Promise<Model> {
  const layers = model.linearLayers.filter(layer => isToTurn(layer, model.weights[layer.weight]!));
  const turned = new Set(layers.map(({ weight }) => weight));
  const copied = copiedFrom(model, turned);
  if (4 * Object.values(copied).reduce((sum, { shape }) => sum + sizeOf(shape), 0) < minBytes) return model;
  const { tensors } = await openCopy(directory, copied, () =>
    Object.fromEntries(Object.entries(copied).map(([name, stored]) => [name, toWrite(name, stored)])),
  );
  const named = Object.entries(tensors).map(([name, tensor]) => [
    isTurned(name) ? name.slice(0, -TURNED.length) : name,
    tensor,
  ]);
  return {
    ...model,
    weights: { ...model.weights, ...Object.fromEntries(named) },
    linearLayers: model.linearLayers.map(layer =>
      turned.has(layer.weight) ? { ...layer, transposed: false } : layer,
    ),
  };
}
