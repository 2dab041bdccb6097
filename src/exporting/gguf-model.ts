// Converts a model to a GGUF file for llama.cpp, and back. Names, settings and changes are in gguf-architectures.ts,
// the tokenizer in gguf-vocabulary.ts.
import type { StoredTensor } from '../engine/program.ts';
import { type GgufFile, type GgufTensor, type GgufValue, readGgufTensors } from '../formats/gguf.ts';
import { readTensor, type TensorToWrite } from '../formats/safetensors.ts';
import type { DescribedModel, Model } from '../models/registry.ts';
import { ggufPlace, ggufTarget, type Place, type Target } from './gguf-architectures.ts';
import { type TokenizerFiles, vocabularyMetadata } from './gguf-vocabulary.ts';
import type { MergedTensor } from './merge.ts';

/** The file's metadata. Throws ModelError for what llama.cpp would compute differently. */
export function ggufMetadata(model: DescribedModel, files: TokenizerFiles): Record<string, GgufValue> {
  const target = ggufTarget(model);
  const own = Object.entries(target.settings(model)).map(([key, value]) => [`${target.name}.${key}`, value]);
  return {
    'general.architecture': { string: target.name },
    ...Object.fromEntries(own),
    ...vocabularyMetadata(files, model.shape.vocabSize),
  };
}

const FILE_TYPES = { F32: 0, F16: 1, BF16: 32 } as const;

/** llama.cpp takes a model of such a name for a Phi-3, and refuses it without Phi-3's tokens. */
const PHI_3 = /phi-?3/i;

/** `name` is informative only. */
export function toGgufFile(
  model: DescribedModel,
  merged: Readonly<Record<string, MergedTensor>>,
  files: TokenizerFiles,
  name: string,
): GgufFile {
  const target = ggufTarget(model);
  const matrix = Object.values(merged).find(({ shape }) => shape.length > 1)!;
  return {
    metadata: {
      ...ggufMetadata(model, files),
      ...((target.name === 'phi3' || !PHI_3.test(name)) && { 'general.name': { string: name } }),
      'general.file_type': { u32: FILE_TYPES[matrix.dtype] },
    },
    tensors: { ...toGgufTensors(model, target, merged), ...target.lists?.(model) },
  };
}

interface Piece {
  readonly tensor: MergedTensor;
  readonly place: Place;
}

function toGgufTensors(
  model: DescribedModel,
  target: Target,
  merged: Readonly<Record<string, MergedTensor>>,
): Record<string, GgufTensor> {
  const pieces = Map.groupBy(
    Object.entries(merged).map(([own, tensor]) => ({ tensor, place: ggufPlace(target, own, model) })),
    ({ place }) => place.name,
  );
  return Object.fromEntries([...pieces].map(([name, own]) => [name, toGgufTensor(own)]));
}

function toGgufTensor(pieces: readonly Piece[]): GgufTensor {
  const { tensor, place } = pieces[0]!;
  const shape = place.change?.shape(tensor.shape) ?? tensor.shape;
  return {
    shape: place.index === null ? shape : [pieces.length, ...shape],
    // llama.cpp requires norms and biases in float32.
    dtype: tensor.shape.length === 1 ? 'F32' : tensor.dtype,
    data: () => stacked(pieces.toSorted((a, b) => (a.place.index ?? 0) - (b.place.index ?? 0))),
  };
}

async function stacked(pieces: readonly Piece[]): Promise<Float32Array> {
  const size = pieces[0]!.tensor.shape.reduce((product, axis) => product * axis, 1);
  const all = new Float32Array(pieces.length * size);
  for (const [index, { tensor, place }] of pieces.entries()) {
    const values = await tensor.data();
    all.set(place.change?.there(values, tensor.shape) ?? values, index * size);
  }
  return all;
}

/** The file's tensors under the model's names, to verify what was written. */
export async function readBackGguf(file: string, model: Model): Promise<Record<string, TensorToWrite>> {
  const stored = await readGgufTensors(file);
  const target = ggufTarget(model);
  const toTensor = ([own, { shape, dtype }]: [string, StoredTensor]): [string, TensorToWrite] => {
    const { name, index, change } = ggufPlace(target, own, model);
    const data = async () => {
      const values = await readTensor(index === null ? stored[name]! : layerOf(stored[name]!, index));
      return change?.back(values, shape) ?? values;
    };
    return [own, { shape, dtype, data }];
  };
  return Object.fromEntries(Object.entries(model.weights).map(toTensor));
}

/** One layer of a stacked tensor. */
function layerOf({ file, offset, sizeBytes, shape, dtype }: StoredTensor, index: number): StoredTensor {
  const bytes = sizeBytes / shape[0]!;
  return { file, offset: offset + index * bytes, sizeBytes: bytes, shape: shape.slice(1), dtype };
}
