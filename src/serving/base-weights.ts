// A model's weights as the generation process reads them, from copies on disk that are made once: on a processor in float32 and
// arranged for its products, and where few bits are asked for in whole numbers. What the copies hold is in the files named here.
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

/** In full. */
export const fullWeights = async (model: Model, options: CopyOptions): Promise<Model> =>
  onProcessor(options) ? copyForServing(model, join(options.cacheDirectory, 'widened')) : model;

/** The copy in few bits is the one that training makes and reads. */
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

/** What is read of the weights: a matrix that products take in few bits is not read in full. */
export function bytesRead({ weights }: Model): number {
  const bytes = Object.values(weights).map(stored => {
    const copies = copiesOf(stored);
    return copies.length > 0 ? copies[0]!.codes.sizeBytes : stored.sizeBytes;
  });
  return bytes.reduce((sum, each) => sum + each, 0);
}
