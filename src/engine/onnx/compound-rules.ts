// How Anneal's own ops, all but the cross-entropy, are computed in ONNX.
import type { Node } from '../graph.ts';
import { CONTRIB, type Lowering } from './lowering.ts';
import type { Rule } from './rules.ts';

const epsilonOf = ({ attributes }: Node) => ({
  axis: { int: -1 },
  epsilon: { float: attributes.eps as number },
});

const meanOfRows = (to: Lowering, x: string) =>
  to.emit('ReduceMean', [x, to.int64([-1])], { attributes: { keepdims: { int: 1 } } });

const times = (to: Lowering, a: string, b: string) => to.emit('Mul', [a, b]);
const scaled = (to: Lowering, a: string, factor: number) => times(to, a, to.scalar('float32', factor));
const shifted = (to: Lowering, a: string, term: number) => to.emit('Add', [a, to.scalar('float32', term)]);

const layerNorm: Rule = (to, node, x, y) =>
  to.emit('LayerNormalization', x, { attributes: epsilonOf(node), outputs: y });

/** scale * (g - mean(g) - c * mean(g c) * scale^2), where g = dy * weight and c = x - mean. */
const layerNormGrad: Rule = (to, _node, [dy, x, weight, mean, scale], y) => {
  const g = times(to, dy!, weight!);
  const centred = to.emit('Sub', [x!, mean!]);
  const slope = times(to, meanOfRows(to, times(to, g, centred)), times(to, scale!, scale!));
  const level = to.emit('Sub', [g, meanOfRows(to, g)]);
  to.emit('Mul', [to.emit('Sub', [level, times(to, centred, slope)]), scale!], { outputs: y });
};

/** ONNX Runtime's name for it, in ONNX's own domain. */
const rmsNorm: Rule = (to, node, x, y) =>
  to.emit('SimplifiedLayerNormalization', x, { attributes: epsilonOf(node), outputs: y });

/** scale * (g - x * mean(g x) * scale^2), where g = dy * weight. */
const rmsNormGrad: Rule = (to, _node, [dy, x, weight, scale], y) => {
  const g = times(to, dy!, weight!);
  const slope = times(to, meanOfRows(to, times(to, g, x!)), times(to, scale!, scale!));
  to.emit('Mul', [to.emit('Sub', [g, times(to, x!, slope)]), scale!], { outputs: y });
};

const CUBIC = 0.044715;
const SLOPE = 2 * Math.sqrt(2 / Math.PI);

/** With s = sigmoid(x v), v = a (1 + b x^2): dy * (s + x s (1 - s) (a + 3 a b x^2)). */
const geluGrad: Rule = (to, _node, [dy, x], y) => {
  const square = times(to, x!, x!);
  const s = to.emit('Sigmoid', [times(to, x!, shifted(to, scaled(to, square, SLOPE * CUBIC), SLOPE))]);
  const out = times(to, x!, s);
  const rest = to.emit('Sub', [out, times(to, out, s)]);
  const slope = times(to, rest, shifted(to, scaled(to, square, 3 * SLOPE * CUBIC), SLOPE));
  to.emit('Mul', [dy!, to.emit('Add', [s, slope])], { outputs: y });
};

/** dy * (s + x s (1 - s)), s = sigmoid(x). */
const siluGrad: Rule = (to, _node, [dy, x], y) => {
  const s = to.emit('Sigmoid', [x!]);
  const out = times(to, x!, s);
  const rest = to.emit('Sub', [out, times(to, out, s)]);
  to.emit('Mul', [dy!, to.emit('Add', [s, rest])], { outputs: y });
};

/** The op takes tables by position: every row's every place is a position of its own. */
const rotary: Rule = (to, { inputs }, [x, cos, sin], y) => {
  const [rows, length, half] = inputs[1]!.shape as [number, number, number];
  const positions = Array.from({ length: rows * length }, (_, i) => i);
  const table = (values: string) => to.emit('Reshape', [values, to.int64([rows * length, half])]);
  const ids = to.literal('int64', [rows, length], positions);
  to.emit('RotaryEmbedding', [x!, ids, table(cos!), table(sin!)], {
    domain: CONTRIB,
    attributes: { interleaved: { int: 0 } },
    outputs: y,
  });
};

export const COMPOUND_RULES = {
  LayerNorm: layerNorm,
  LayerNormGrad: layerNormGrad,
  RmsNorm: rmsNorm,
  RmsNormGrad: rmsNormGrad,
  Gelu: (to, _node, x, y) => to.emit('FastGelu', x, { domain: CONTRIB, outputs: y }),
  GeluGrad: geluGrad,
  Silu: (to, _node, x, y) =>
    to.emit('QuickGelu', x, { domain: CONTRIB, attributes: { alpha: { float: 1 } }, outputs: y }),
  SiluGrad: siluGrad,
  Rotary: rotary,
} satisfies Record<string, Rule>;
