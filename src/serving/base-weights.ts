// Weights for serving, from copies on disk that are made once: on CPUs in float32, in the layout of its matrix products; if requested,
// quantized to integers. See serving-weights.ts, packed-weights.ts and models/quantized-weights.ts.
import { join } from 'node:path';
import type { Engine } from '../engine/program.ts';
import { copiesOf } from '../engine/weights.ts';
import type { ColumnQuantization } from '../formats/quantization.ts';
import { quantizeWeights } from '../models/quantized-weights.ts';
import type { Model } from '../models/registry.ts';
import { packForServing } from './packed-weights.ts';
import { copyForServing } from './serving-weights.ts';

export interface CopyOptions {
  readonly engine: Pick<Engine, 'name' | 'device'>;
  readonly cacheDirectory: string;
}

const onProcessor = ({ engine: { name, device } }: CopyOptions): boolean =>
  name === 'onnx' && device === 'cpu';

/** Unquantized. */
export const fullWeights = async (model: Model, options: CopyOptions): Promise<Model> =>
  onProcessor(options) ? copyForServing(model, join(options.cacheDirectory, 'widened')) : model;

/** The quantized copy is shared with training. */
export async function weightsInFewBits(
  model: Model,
  quantization: ColumnQuantization,
  options: CopyOptions,
): Promise<Model> {
  const { cacheDirectory } = options;
  const quantized = await quantizeWeights(model, quantization, join(cacheDirectory, 'quantized'));
  if (!onProcessor(options)) return quantized;
  return fullWeights(await packForServing(quantized, join(cacheDirectory, 'packed')), options);
}

/** Bytes of weights that programs read: of a quantized matrix only the codes. */
export function bytesRead({ weights }: Model): number {
  const bytes = Object.values(weights).map(stored => {
    const copies = copiesOf(stored);
    return copies.length > 0 ? copies[0]!.codes.sizeBytes : stored.sizeBytes;
  });
  return bytes.reduce((sum, each) => sum + each, 0);
}
