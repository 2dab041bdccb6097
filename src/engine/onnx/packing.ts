// Pre-packs a weight's integer codes as ONNX Runtime does for this CPU, into a file that many programs map. Each
// session still packs them when it opens, finds by their hash that the file has the same bytes, and frees its own copy.
import { randomUUID } from 'node:crypto';
import { mkdir, readFile, realpath, rm } from 'node:fs/promises';
import { join, parse } from 'node:path';
import { encodeOnnx, type OnnxModel, type PackedBytes } from '../../formats/onnx.ts';
import type { StoredCodes } from '../program.ts';
import { CONTRIB } from './lowering.ts';
import { InferenceSession } from './runtime.ts';
import { locateFromRoot } from './session.ts';

/** A model of one product like those of frozen.ts. */
function productWith({ offset, sizeBytes, shape }: StoredCodes, location: string): OnnxModel {
  const [k, n] = shape as [number, number];
  const one = new Uint8Array(Float32Array.of(1).buffer);
  return {
    graph: {
      name: 'packing',
      inputs: [
        { name: 'x', type: 'uint8', shape: [1, k] },
        { name: 'steps', type: 'float32', shape: [n] },
      ],
      outputs: [{ name: 'y', type: 'float32', shape: [1, n] }],
      initializers: [
        { name: 'w', type: 'int8', shape, data: { location, offset, sizeBytes } },
        { name: 'step', type: 'float32', shape: [], data: one },
        { name: 'zero', type: 'uint8', shape: [], data: Uint8Array.of(0) },
      ],
      nodes: [
        {
          op: 'MatMulIntegerToFloat',
          domain: CONTRIB,
          inputs: ['x', 'w', 'step', 'steps', 'zero'],
          outputs: ['y'],
          attributes: {},
        },
      ],
    },
    opsets: { '': 20, [CONTRIB]: 1 },
  };
}

/** Name of the file that ONNX Runtime writes weights into. */
const DATA = 'packed';

/** An entry in the model that ONNX Runtime saves: key, offset, length. */
const ENTRY = /(MatMulIntegerToFloat\+\d+)\|(\d+);(\d+);/;

export interface PackedFile extends PackedBytes {
  /** Contains other data too. */
  readonly file: string;
}

/** Writes the packed codes into a file in `directory`; null where this CPU's kernels read them unpacked. */
export async function packCodes(codes: StoredCodes, directory: string): Promise<PackedFile | null> {
  const folder = join(directory, randomUUID());
  await mkdir(folder, { recursive: true });
  const source = await realpath(codes.file);
  const [model, data] = [join(folder, 'model.onnx'), join(folder, DATA)];
  const session = await InferenceSession.create(
    Buffer.concat(encodeOnnx(productWith(codes, locateFromRoot(source)))),
    {
      executionProviders: ['cpu'],
      graphOptimizationLevel: 'disabled',
      logSeverityLevel: 3,
      optimizedModelFilePath: model,
      extra: {
        session: {
          model_external_initializers_file_folder_path: parse(source).root,
          save_external_prepacked_constant_initializers: '1',
          optimized_model_external_initializers_file_name: DATA,
          optimized_model_external_initializers_min_size_in_bytes: '0',
        },
      },
    },
  );
  await session.release();
  const found = ENTRY.exec(await readFile(model, 'latin1'));
  await rm(model);
  if (!found) return null;
  return { file: data, key: found[1]!, offset: Number(found[2]), sizeBytes: Number(found[3]) };
}
