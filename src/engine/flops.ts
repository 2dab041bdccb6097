// Counts the floating-point operations of a graph's matrix products from their shapes: two per multiply-add. Everything
// else (norms, activations, softmax) is a few per cent and not counted.
import { sizeOf } from './arrays.ts';
import { blocksOf } from './attention-blocks.ts';
import type { Graph, Node } from './graph.ts';
import type { OpName } from './kernels.ts';
import { PORTABLE_PASSES } from './passes.ts';
import type { Program } from './program.ts';
import { trace } from './trace.ts';

type Count = (node: Node) => number;

/** [.., m, k] x [.., k, n], either of them transposed. */
const product: Count = ({ inputs: [a], outputs: [y], attributes }) =>
  2 * sizeOf(y!.shape) * a!.shape.at(attributes.transposeA ? -2 : -1)!;

/** Every letter of the equation is one loop. */
function einsum({ inputs, attributes }: Node): number {
  const [terms] = (attributes.equation as string).replaceAll(' ', '').split('->') as [string];
  const lengths = new Map<string, number>();
  terms.split(',').forEach((term, i) => {
    for (const [axis, letter] of [...term].entries()) lengths.set(letter, inputs[i]!.shape[axis]!);
  });
  return 2 * sizeOf([...lengths.values()]);
}

/**
 * hidden [.., d] x weight [vocabulary, d], `times` times: once for the logits, once for each gradient. Rows without a
 * target are counted too.
 */
const logits =
  (times: (node: Node) => number): Count =>
  node =>
    times(node) * 2 * sizeOf(node.inputs[0]!.shape) * node.inputs[1]!.shape[0]!;

/** Every row of x times one of the matrices. */
const groupProduct: Count = ({ inputs: [x], outputs: [y] }) => 2 * sizeOf(y!.shape) * x!.shape[1]!;

/** Every row of dy, times its row of x. */
const groupProductGrad: Count = ({ inputs: [dy, x] }) => 2 * sizeOf(dy!.shape) * x!.shape[1]!;

/**
 * Products of a block's queries (or their gradients) with the keys it sees: two in the forward pass, five in the
 * backward.
 */
const attention =
  (queryAt: number, products: (node: Node) => number): Count =>
  node => {
    const [query, key] = [node.inputs[queryAt]!, node.inputs[queryAt + 1]!];
    const [rows, heads, , headDim] = query.shape as [number, number, number, number];
    const blocks = blocksOf(query, key, node.attributes.causal as boolean);
    const scores = blocks.reduce((sum, { start, end, keys }) => sum + (end - start) * keys, 0);
    return products(node) * 2 * rows * heads * scores * headDim;
  };

const GRADIENTS: Record<string, number> = { none: 0, hidden: 1, weight: 1, both: 2 };

const COUNTS: Partial<Record<OpName, Count>> = {
  BatchMatMul: product,
  Gemm: product,
  Einsum: einsum,
  GroupProduct: groupProduct,
  GroupProductGrad: groupProductGrad,
  Attention: attention(0, () => 2),
  AttentionGrad: attention(2, ({ attributes }) => (attributes.of === 'bias' ? 2 : 5)),
  CrossEntropy: logits(({ attributes }) => 1 + GRADIENTS[attributes.gradients as string]!),
  TokenLosses: logits(() => 1),
  TokenLossesGrad: logits(() => 2),
};

/** Of one run of the graph. */
export const productFlops = ({ nodes }: Graph): number =>
  nodes.reduce((total, node) => total + (COUNTS[node.op]?.(node) ?? 0), 0);

/** Of one run of the program; it is traced, not compiled. */
export const programFlops = (program: Program): number =>
  productFlops(PORTABLE_PASSES.reduce((graph, pass) => pass(graph), trace(program)));
