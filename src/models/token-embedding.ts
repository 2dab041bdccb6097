// The embedding of tokens as torch.nn.Embedding has it in transformers: reading the padding token teaches its row nothing.
import type { Tensor } from '@tensorflow/tfjs';
import { lookUp } from '../engine/ops.ts';
import { tf } from '../engine/tf.ts';
import { type ConfigJson, readCount } from './config-fields.ts';

/** `pad_token_id`; what transformers takes where config.json does not say. Null: all tokens are alike. */
export function readPadId(json: ConfigJson, fallback: number | null): number | null {
  if (json.pad_token_id === null) return null;
  if (json.pad_token_id === 0) return 0;
  return json.pad_token_id === undefined ? fallback : readCount(json, 'pad_token_id');
}

/** table [vocab, width], tokens [rows, length] int32 -> [rows, length, width] */
export const embedTokens = (table: Tensor, tokens: Tensor, padId: number | null): Tensor =>
  padId === null ? tf.gather(table, tokens as never) : lookUp(table, tokens, padId);
