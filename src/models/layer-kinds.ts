// Which layers have full attention and which a sliding window, as configs say it.
import { type ConfigJson, readCount } from './config-fields.ts';
import { ModelError } from './model-error.ts';

const KINDS = ['sliding_attention', 'full_attention'] as const;
export type LayerKind = (typeof KINDS)[number];

/** One entry per layer: `layer_types` if given, otherwise by `isFull`. */
export function readLayerKinds(json: ConfigJson, isFull: (index: number) => boolean): LayerKind[] {
  const layers = readCount(json, 'num_hidden_layers');
  const given =
    json.layer_types ?? Array.from({ length: layers }, (_, index) => KINDS[isFull(index) ? 1 : 0]);
  if (!Array.isArray(given) || given.length !== layers || !given.every(kind => KINDS.includes(kind))) {
    throw new ModelError(`config.json: layer_types must have ${layers} entries out of ${KINDS.join(', ')}`);
  }
  return given;
}
