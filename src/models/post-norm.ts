// The encoder and decoder layers that BART and Marian share: a norm after each sublayer, biases everywhere. Embeddings
// and positions are in the models' own files. The config's dropout and layerdrop are not applied; adapters have their
// own dropout.
import type { Tensor } from '@tensorflow/tfjs';
import { layerNorm } from '../engine/ops.ts';
import { tf } from '../engine/tf.ts';
import { type Activation, readActivation } from './activations.ts';
import type { Layers, LinearLayer, ModelShape } from './architecture.ts';
import { type ConfigJson, readCount, readWidthAndHeads } from './config-fields.ts';
import { mergeHeads, splitHeads } from './heads.ts';
import { linearLayer, linearTensors, type NamedShape, normTensors } from './linear-layers.ts';

export type Side = 'encoder' | 'decoder';

interface PostNormStack {
  readonly layers: number;
  readonly heads: number;
  readonly innerSize: number;
}

export interface PostNormConfig {
  readonly hiddenSize: number;
  readonly encoder: PostNormStack;
  readonly decoder: PostNormStack;
  readonly activation: Activation;
  readonly maxPositions: number;
  /** Its embedding gets no gradient from lookups; Marian's answers start with it. */
  readonly padId: number;
}

export const SIDES: readonly Side[] = ['encoder', 'decoder'];

/** Added to the logits of tokens. */
export const LOGIT_BIAS = 'final_logits_bias';

/** On top of the layers: what tokens, or classes of whole texts, are predicted with. */
export const isOutput = (name: string): boolean =>
  name === LOGIT_BIAS || /^(lm_head|classification_head)\./.test(name);

const NORM_EPSILON = 1e-5;

export function readPostNorm(json: ConfigJson, padId: number): PostNormConfig {
  const hiddenSize = readCount(json, 'd_model', 1024);
  const stack = (side: Side): PostNormStack => {
    const [, heads] = readWidthAndHeads(json, ['d_model', 1024], [`${side}_attention_heads`, 16]);
    return {
      layers: readCount(json, `${side}_layers`, 12),
      heads,
      innerSize: readCount(json, `${side}_ffn_dim`, 4096),
    };
  };
  return {
    hiddenSize,
    encoder: stack('encoder'),
    decoder: stack('decoder'),
    activation: readActivation(json, 'activation_function', 'gelu'),
    maxPositions: readCount(json, 'max_position_embeddings', 1024),
    padId: typeof json.pad_token_id === 'number' ? json.pad_token_id : padId,
  };
}

export const postNormShape = (c: PostNormConfig, vocabSize: number): ModelShape => ({
  layers: c.decoder.layers,
  hiddenSize: c.hiddenSize,
  heads: c.decoder.heads,
  kvHeads: c.decoder.heads,
  headDim: c.hiddenSize / c.decoder.heads,
  vocabSize,
  maxPositions: c.maxPositions,
});

const layerPath = (side: Side, index: number): string => `model.${side}.layers.${index}`;

const eachLayer = <Made>(c: PostNormConfig, make: (side: Side, path: string) => Made[]): Made[] =>
  SIDES.flatMap(side =>
    Array.from({ length: c[side].layers }, (_, index) => make(side, layerPath(side, index))).flat(),
  );

function layerLinears(c: PostNormConfig, side: Side, path: string): LinearLayer[] {
  const linear = (name: string, inFeatures: number, outFeatures: number, ofSource = side === 'encoder') => ({
    ...linearLayer(`${path}.${name}`, inFeatures, outFeatures, true),
    ofSource,
  });
  const square = (name: string, ofSource?: boolean) => linear(name, c.hiddenSize, c.hiddenSize, ofSource);
  const { innerSize } = c[side];
  return [
    ...['k_proj', 'v_proj', 'q_proj', 'out_proj'].map(kind => square(`self_attn.${kind}`)),
    ...(side === 'decoder'
      ? [
          ...['k_proj', 'v_proj'].map(kind => square(`encoder_attn.${kind}`, true)),
          ...['q_proj', 'out_proj'].map(kind => square(`encoder_attn.${kind}`)),
        ]
      : []),
    linear('fc1', c.hiddenSize, innerSize),
    linear('fc2', innerSize, c.hiddenSize),
  ];
}

export const postNormLinears = (c: PostNormConfig): LinearLayer[] =>
  eachLayer(c, (side, path) => layerLinears(c, side, path));

const normNames = (side: Side): string[] => [
  'self_attn_layer_norm',
  ...(side === 'decoder' ? ['encoder_attn_layer_norm'] : []),
  'final_layer_norm',
];

/** The tensors of all layers of both sides. */
export const postNormTensors = (c: PostNormConfig): NamedShape[] => [
  ...linearTensors(postNormLinears(c)),
  ...eachLayer(c, (side, path) =>
    normNames(side).flatMap(name => normTensors(`${path}.${name}`, c.hiddenSize)),
  ),
];

export const postNorm = (path: string, x: Tensor, layers: Layers): Tensor =>
  layerNorm(x, layers.weight(`${path}.weight`), layers.weight(`${path}.bias`), NORM_EPSILON);

/** x [rows, length, hidden] -> [rows, length, hidden] */
function selfAttention(c: PostNormConfig, side: Side, index: number, x: Tensor, layers: Layers): Tensor {
  const path = `${layerPath(side, index)}.self_attn`;
  const { heads } = c[side];
  const split = (kind: string): Tensor => splitHeads(layers.linear(`${path}.${kind}_proj`, x), heads);
  const attended = layers.attend({
    layer: index,
    query: split('q'),
    key: split('k'),
    value: split('v'),
    scale: (c.hiddenSize / heads) ** -0.5,
    window: null,
    bothWays: side === 'encoder',
  });
  return layers.linear(`${path}.out_proj`, mergeHeads(attended));
}

function sourceAttention(c: PostNormConfig, index: number, x: Tensor, layers: Layers): Tensor {
  const path = `${layerPath('decoder', index)}.encoder_attn`;
  const { heads } = c.decoder;
  const split = (kind: string, of: Tensor): Tensor =>
    splitHeads(layers.linear(`${path}.${kind}_proj`, of), heads);
  const attended = layers.attendSource!({
    layer: index,
    query: split('q', x),
    scale: (c.hiddenSize / heads) ** -0.5,
    read: states => ({ key: split('k', states), value: split('v', states) }),
  });
  return layers.linear(`${path}.out_proj`, mergeHeads(attended));
}

function block(c: PostNormConfig, side: Side, index: number, x: Tensor, layers: Layers): Tensor {
  const path = layerPath(side, index);
  const added = (name: string, to: Tensor, part: Tensor): Tensor =>
    postNorm(`${path}.${name}`, tf.add(to, part), layers);
  const own = added('self_attn_layer_norm', x, selfAttention(c, side, index, x, layers));
  const asked =
    side === 'encoder' ? own : added('encoder_attn_layer_norm', own, sourceAttention(c, index, own, layers));
  const inner = c.activation(layers.linear(`${path}.fc1`, asked));
  return added('final_layer_norm', asked, layers.linear(`${path}.fc2`, inner));
}

/** All layers of one side; x [rows, length, hidden] is the embedded text. */
export function postNormLayers(c: PostNormConfig, side: Side, x: Tensor, layers: Layers): Tensor {
  let states = x;
  for (let index = 0; index < c[side].layers; index++) states = block(c, side, index, states, layers);
  return states;
}
