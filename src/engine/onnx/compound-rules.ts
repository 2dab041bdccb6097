// Lowering rules for Anneal's own ops, except attention and cross-entropy.
import { sizeOf } from '../arrays.ts';
import type { Node, Value } from '../graph.ts';
import type { GeluForm } from '../ops.ts';
import { CONTRIB, type Lowering } from './lowering.ts';
import { multiply } from './products.ts';
import type { Rule } from './rules.ts';
import { emitInTiles } from './tiles.ts';

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

type Body = (to: Lowering, tiles: readonly string[], outputs?: readonly string[]) => string;

/** A rule that is computed tile by tile; the input at `wholeAt`, a vector, is passed whole to every tile. */
const tiled =
  (wholeAt: number | null, body: (whole: string) => Body): Rule =>
  (to, { inputs, outputs }, x, [y]) => {
    const [{ shape }] = outputs as [Value];
    const width = shape.at(-1) ?? 1;
    const matrices = inputs
      .map((value, i) => ({ name: x[i]!, width: value.shape.at(-1) ?? 1 }))
      .filter((_, i) => i !== wholeAt);
    const whole = wholeAt === null ? '' : x[wholeAt]!;
    emitInTiles(to, matrices, [sizeOf(shape) / width, width], { name: y!, shape }, body(whole));
  };

/** Index of the weight among the inputs of a norm's gradient. */
const WEIGHT = 2;

/** scale * (g - mean(g) - c * mean(g c) * scale^2), where g = dy * weight and c = x - mean. */
const layerNormGrad = tiled(WEIGHT, weight => (to, [dy, x, mean, scale], outputs) => {
  const g = times(to, dy!, weight);
  const centred = to.emit('Sub', [x!, mean!]);
  const slope = times(to, meanOfRows(to, times(to, g, centred)), times(to, scale!, scale!));
  const level = to.emit('Sub', [g, meanOfRows(to, g)]);
  return to.emit('Mul', [to.emit('Sub', [level, times(to, centred, slope)]), scale!], { outputs });
});

/** SimplifiedLayerNormalization is ONNX Runtime's name for RMS norm, registered in the default domain. */
const rmsNorm: Rule = (to, node, x, y) => {
  if (to.provider === 'webgpu') rmsNormInParts(to, node, x, y);
  else to.emit('SimplifiedLayerNormalization', x, { attributes: epsilonOf(node), outputs: y });
};

/** ONNX Runtime's WebGPU kernel does not write the second output, the scale (1.30). */
const rmsNormInParts: Rule = (to, { attributes }, [x, weight], [y, scale]) => {
  const mean = shifted(to, meanOfRows(to, times(to, x!, x!)), attributes.eps as number);
  const factor = to.emit('Reciprocal', [to.emit('Sqrt', [mean])], { outputs: [scale!] });
  to.emit('Mul', [times(to, x!, factor), weight!], { outputs: [y!] });
};

/** scale * (g - x * mean(g x) * scale^2), where g = dy * weight. */
const rmsNormGrad = tiled(WEIGHT, weight => (to, [dy, x, scale], outputs) => {
  const g = times(to, dy!, weight);
  const slope = times(to, meanOfRows(to, times(to, g, x!)), times(to, scale!, scale!));
  return to.emit('Mul', [to.emit('Sub', [g, times(to, x!, slope)]), scale!], { outputs });
});

const CUBIC = 0.044715;
const SLOPE = 2 * Math.sqrt(2 / Math.PI);

/** ONNX Runtime's ops for the two forms; every provider has them. */
const GELU_OPS: Record<GeluForm, string> = { none: 'Gelu', tanh: 'FastGelu' };

const geluFormOf = ({ attributes }: Node) => attributes.approximate as GeluForm;

/** With s = sigmoid(x v), v = a (1 + b x^2): dy * (s + x s (1 - s) (a + 3 a b x^2)). */
const geluTanhGrad = tiled(null, () => (to, [dy, x], outputs) => {
  const square = times(to, x!, x!);
  const s = to.emit('Sigmoid', [times(to, x!, shifted(to, scaled(to, square, SLOPE * CUBIC), SLOPE))]);
  const out = times(to, x!, s);
  const rest = to.emit('Sub', [out, times(to, out, s)]);
  const slope = times(to, rest, shifted(to, scaled(to, square, 3 * SLOPE * CUBIC), SLOPE));
  return to.emit('Mul', [dy!, to.emit('Add', [s, slope])], { outputs });
});

/** With z = x / sqrt(2): dy * (1 + erf(z) + 2 / sqrt(pi) z exp(-z^2)) / 2. */
const geluExactGrad = tiled(null, () => (to, [dy, x], outputs) => {
  const z = scaled(to, x!, Math.SQRT1_2);
  const bell = to.emit('Exp', [to.emit('Neg', [times(to, z, z)])]);
  const slope = scaled(to, times(to, z, bell), 2 / Math.sqrt(Math.PI));
  const twice = shifted(to, to.emit('Add', [to.emit('Erf', [z]), slope]), 1);
  return to.emit('Mul', [dy!, scaled(to, twice, 0.5)], { outputs });
});

const GELU_GRADS: Record<GeluForm, Rule> = { none: geluExactGrad, tanh: geluTanhGrad };

/** dy * (s + x s (1 - s)), s = sigmoid(x). */
const siluGrad = tiled(null, () => (to, [dy, x], outputs) => {
  const s = to.emit('Sigmoid', [x!]);
  const out = times(to, x!, s);
  const rest = to.emit('Sub', [out, times(to, out, s)]);
  return to.emit('Mul', [dy!, to.emit('Add', [s, rest])], { outputs });
});

/** The op looks angles up by position id: every token gets a position of its own. */
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

/** Splits x into the rows of each group. */
function splitGroups(to: Lowering, x: string, sizes: string, groups: number): string[] {
  const outputs = Array.from({ length: groups }, () => to.fresh('group'));
  to.emit('Split', [x, to.cast(sizes, 'int64')], { attributes: { axis: { int: 0 } }, outputs });
  return outputs;
}

/** The sizes of groups are known only at run time. */
const groupProduct: Rule = (to, { attributes }, [x, sizes, ...weights], y) => {
  const transposeB = attributes.transposeB as boolean;
  const parts = splitGroups(to, x!, sizes!, weights.length).map((rows, group) =>
    multiply(to, [rows, weights[group]!], { ranks: [2, 2], transposeB }),
  );
  to.emit('Concat', parts, { attributes: { axis: { int: 0 } }, outputs: y });
};

const groupProductGrad: Rule = (to, _node, [dy, x, sizes], y) => {
  const rows = splitGroups(to, x!, sizes!, y.length);
  splitGroups(to, dy!, sizes!, y.length).forEach((slopes, group) => {
    multiply(to, [slopes, rows[group]!], { ranks: [2, 2], transposeA: true }, [y[group]!]);
  });
};

export const COMPOUND_RULES = {
  LayerNorm: layerNorm,
  LayerNormGrad: layerNormGrad,
  RmsNorm: rmsNorm,
  RmsNormGrad: rmsNormGrad,
  Gelu: (to, node, x, y) => to.emit(GELU_OPS[geluFormOf(node)], x, { domain: CONTRIB, outputs: y }),
  GeluGrad: (to, node, x, y) => GELU_GRADS[geluFormOf(node)](to, node, x, y),
  Silu: (to, _node, x, y) =>
    to.emit('QuickGelu', x, { domain: CONTRIB, attributes: { alpha: { float: 1 } }, outputs: y }),
  SiluGrad: siluGrad,
  Rotary: rotary,
  GroupProduct: groupProduct,
  GroupProductGrad: groupProductGrad,
} satisfies Record<string, Rule>;
