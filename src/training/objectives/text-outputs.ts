// What classification and regression share: pooling of a text's states, a head on top, one row of outputs per text of a
// micro-batch. The losses are in their own files.
import type { Tensor } from '@tensorflow/tfjs';
import type { Example } from '../../data/example-form.ts';
import type { HostArrays, TensorSpec, Tensors } from '../../engine/program.ts';
import { tf } from '../../engine/tf.ts';
import {
  meaningOfConfig,
  type OutputMeaning,
  readMeaning,
  sameOutputs,
} from '../../formats/classifier-config.ts';
import { readTensor } from '../../formats/safetensors.ts';
import { fillPooling } from '../../models/pooling.ts';
import { readTexts } from '../../models/read-texts.ts';
import { type SequenceHead, sequenceHead } from '../../models/sequence-head.ts';
import type { MicroBatchPlan } from '../layout.ts';
import { packTokens, startsIn, tokenInputs } from '../micro-batch.ts';
import type { MicroBatchShape } from '../programs.ts';
import { normals } from '../random.ts';
import type { Forward, Head, ObjectiveInputs } from './objective.ts';

/** Upper bound of the examples in a batch (hyperparameters.ts) and in a validation window (validation.ts). */
const MOST_TEXTS = 256;

/** Text slots of a micro-batch. */
const textsOf = ({ rows, length }: MicroBatchShape): number => Math.min(MOST_TEXTS, rows * length);

/**
 * tokens, positions, segments [rows, length] int32. pooling [texts, rows * length] float32: the weight of each token's
 * state in each text, zeros in empty slots. targets [texts, values] float32; present [texts] float32: 1 for texts, 0
 * for empty slots.
 */
export function textInputs(shape: MicroBatchShape, values: number): Record<string, TensorSpec> {
  const texts = textsOf(shape);
  const { targets: _, ...tokens } = tokenInputs(shape);
  return {
    ...tokens,
    pooling: { shape: [texts, shape.rows * shape.length], dtype: 'float32' },
    targets: { shape: [texts, values], dtype: 'float32' },
    present: { shape: [texts], dtype: 'float32' },
  };
}

export function packTexts(
  plan: MicroBatchPlan,
  examples: readonly Example[],
  values: number,
  pooling: SequenceHead['pooling'],
): HostArrays {
  const texts = textsOf(plan.shape);
  const tokens = plan.shape.rows * plan.shape.length;
  const packed = {
    pooling: new Float32Array(texts * tokens),
    targets: new Float32Array(texts * values),
    present: new Float32Array(texts),
  };
  for (const [text, { place, start }] of startsIn(plan, examples).entries()) {
    const { sequences, values: targets } = examples[place]!;
    const from = text * tokens + start;
    fillPooling(pooling, packed.pooling.subarray(from, from + sequences[0]!.tokens.length));
    packed.targets.set(targets, text * values);
    packed.present[text] = 1;
  }
  const { targets: _, ...row } = packTokens(plan, examples);
  return { ...row, ...packed };
}

/** [texts, outputs] */
export function outputsOf({ model, weight, layers }: Forward, inputs: Tensors, head: SequenceHead): Tensor {
  const states = tf.reshape(readTexts(model, inputs, layers), [-1, model.shape.hiddenSize]);
  return head.logits(tf.matMul(inputs.pooling as never, states as never), weight);
}

export interface TextOutputs {
  readonly head: SequenceHead;
  readonly trained: Head;
}

type Start = Pick<ObjectiveInputs, 'model' | 'adapter' | 'adapterDirectory'>;

/**
 * The head for these outputs: initialized from the model or adapter that the run starts from, as far as it has the same
 * outputs, otherwise newly.
 */
export async function openHead(start: Start, meaning: OutputMeaning): Promise<TextOutputs> {
  const { model } = start;
  const head = sequenceHead(model, meaning.labels.length);
  const former = await formerHead(start, meaning);
  return {
    head,
    trained: {
      parameters: Object.entries(head.tensors).map(([name, shape]) => ({
        name,
        shape,
        decays: shape.length > 1,
      })),
      modules: head.modules,
      served: model.served,
      meaning,
      async firstValues(seed) {
        const entries = Object.entries(head.tensors).map(async ([name, shape], index) => {
          const stored = former[name];
          const fits = stored && String(stored.shape) === String(shape);
          return [name, fits ? await readTensor(stored) : fresh(head, name, shape, { seed, index })] as const;
        });
        return Object.fromEntries(await Promise.all(entries));
      },
    },
  };
}

/** Tensors to start from, by name. Layers below the last one are reused whatever the outputs mean. */
async function formerHead({ model, adapter, adapterDirectory }: Start, meaning: OutputMeaning) {
  const found = { ...model.leftOut, ...adapter?.head };
  const before = (adapterDirectory && (await readMeaning(adapterDirectory))) || meaningOfConfig(model.config);
  if (before && sameOutputs(before, meaning)) return found;
  const { out } = sequenceHead(model, meaning.labels.length);
  return Object.fromEntries(Object.entries(found).filter(([name]) => !name.startsWith(`${out}.`)));
}

/** Initialized like transformers: normal matrices, zero biases, norms of one. */
function fresh(
  { spread }: SequenceHead,
  name: string,
  shape: readonly number[],
  { seed, index }: { seed: number; index: number },
): Float32Array {
  const size = shape.reduce((product, length) => product * length, 1);
  if (shape.length === 1) return new Float32Array(size).fill(name.endsWith('norm.weight') ? 1 : 0);
  return normals(size, { seed, purpose: 'head', at: [index, 0, 0] }).map(x => x * spread);
}
