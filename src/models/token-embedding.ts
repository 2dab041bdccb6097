// Token embedding like torch.nn.Embedding in transformers: lookups of the padding token give its row no gradient.
import type { Tensor } from '@tensorflow/tfjs';
import { lookUp } from '../engine/ops.ts';
import { tf } from '../engine/tf.ts';
import { type ConfigJson, readCount } from './config-fields.ts';

/** `pad_token_id`; `fallback` is transformers' default for the architecture. Null: no padding token. */
export function readPadId(json: ConfigJson, fallback: number | null): number | null {
  if (json.pad_token_id === null) return null;
  if (json.pad_token_id === 0) return 0;
  return json.pad_token_id === undefined ? fallback : readCount(json, 'pad_token_id');
}

/** table [vocab, width], tokens [rows, length] int32 -> [rows, length, width] */
export const embedTokens = (table: Tensor, tokens: Tensor, padId: number | null): Tensor =>
  padId === null ? tf.gather(table, tokens as never) : lookUp(table, tokens, padId);
