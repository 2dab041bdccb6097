// Hidden states of whole texts, one per token, for embeddings, classification and regression. Pooling is elsewhere.
import type { Tensor } from '@tensorflow/tfjs';
import type { Tensors } from '../engine/program.ts';
import { tf } from '../engine/tf.ts';
import { answerRules } from './answer-rules.ts';
import type { Layers } from './architecture.ts';
import type { PackedSource } from './packed.ts';
import type { Model } from './registry.ts';

/**
 * tokens, positions, segments [rows, length] int32 -> [rows, length, hiddenSize]. In an encoder-decoder, the decoder
 * reads the encoder's text again, shifted right, as BartForSequenceClassification and T5ForSequenceClassification of
 * transformers do.
 */
export function readTexts(
  model: Model,
  { tokens, positions, segments }: Tensors,
  layers: (segments: Tensor, source?: PackedSource) => Layers,
): Tensor {
  if (model.kind !== 'encoder-decoder') return model.hidden(tokens!, positions!, layers(segments!));
  const states = model.encode(tokens!, positions!, layers(segments!));
  const begun = shiftTokens(tokens!, positions!, answerRules(model).start);
  return model.hidden(begun, positions!, layers(segments!, { states, segments: segments! }));
}

/** Shifts every text right and puts the decoder's start token in front. */
function shiftTokens(tokens: Tensor, positions: Tensor, start: number): Tensor {
  const [rows, length] = tokens.shape as [number, number];
  const before = tf.concat(
    [tf.slice(tokens, [0, 0], [rows, 1]), tf.slice(tokens, [0, 0], [rows, length - 1])],
    1,
  );
  const isFirst = tf.equal(positions, tf.scalar(0, 'int32'));
  return tf.where(isFirst, tf.fill([rows, length], start, 'int32'), before);
}
