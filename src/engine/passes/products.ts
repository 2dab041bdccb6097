// Folds neighbouring ops into matrix products: transposes of the last two axes, scalar factors, and additions (ONNX's
// Gemm).
import {
  countUses,
  type Graph,
  type GraphBuilder,
  type Node,
  type Pass,
  rewrite,
  sameShape,
  type Value,
} from '../graph.ts';

/** Swaps the last two axes and nothing else. */
function swapsLast(node: Node | undefined): node is Node {
  const perm = node?.attributes.perm as readonly number[] | undefined;
  if (!perm || perm.length < 2) return false;
  const last = perm.length - 1;
  return (
    perm[last] === last - 1 && perm[last - 1] === last && perm.slice(0, -2).every((axis, i) => axis === i)
  );
}

function transposes({ inputs: [a, b], attributes, outputs }: Node, builder: GraphBuilder): Value[] | null {
  const before = [builder.producer(a!, 'Transpose'), builder.producer(b!, 'Transpose')];
  if (!before.some(swapsLast)) return null;
  const [left, right] = before.map((node, i) => (swapsLast(node) ? node.inputs[0]! : [a, b][i]!));
  const flipped = {
    ...attributes,
    transposeA: Boolean(attributes.transposeA) !== swapsLast(before[0]),
    transposeB: Boolean(attributes.transposeB) !== swapsLast(before[1]),
  };
  return builder.add('BatchMatMul', [left!, right!], flipped, outputs);
}

/** A scalar factor of an operand becomes the product's alpha. */
function factorBefore({ inputs, attributes, outputs }: Node, builder: GraphBuilder): Value[] | null {
  for (const [i, input] of inputs.entries()) {
    const scaling = builder.producer(input, 'Multiply');
    const factor = scaling && builder.splat(scaling.inputs[1]!);
    if (factor === undefined || !sameShape(scaling!.inputs[0]!, input)) continue;
    const alpha = Number(attributes.alpha ?? 1) * factor;
    return builder.add('BatchMatMul', inputs.with(i, scaling!.inputs[0]!), { ...attributes, alpha }, outputs);
  }
  return null;
}

export const foldIntoProducts: Pass = graph =>
  rewrite(graph, (node, builder) =>
    node.op === 'BatchMatMul' ? (transposes(node, builder) ?? factorBefore(node, builder)) : null,
  );

/** A scalar factor of a product that nothing else reads becomes its alpha. */
export function foldFactors(graph: Graph): Graph {
  const uses = countUses(graph);
  return rewrite(graph, (node, builder) => {
    if (node.op !== 'Multiply') return null;
    const factor = builder.splat(node.inputs[1]!);
    const product = builder.producer(node.inputs[0]!, 'BatchMatMul');
    if (factor === undefined || !product || uses.get(node.inputs[0]!) !== 1) return null;
    if (!sameShape(node.outputs[0]!, product.outputs[0]!)) return null;
    const alpha = Number(product.attributes.alpha ?? 1) * factor;
    return builder.add('BatchMatMul', product.inputs, { ...product.attributes, alpha }, node.outputs);
  });
}

/** Whether Gemm can add `term`: it broadcasts to [m, n]. */
const addable = (term: Value, [m, n]: readonly number[]): boolean => {
  const [rows, columns] = term.shape.length === 2 ? term.shape : [1, ...term.shape];
  return term.shape.length > 0 && term.shape.length <= 2 && (rows === 1 || rows === m) && columns === n;
};

/** product + term -> Gemm, for products of two axes that nothing else reads. */
export function makeGemms(graph: Graph): Graph {
  const uses = countUses(graph);
  return rewrite(graph, (node, builder) => {
    if (node.op !== 'Add' || node.outputs[0]!.shape.length !== 2) return null;
    const [m, n] = node.outputs[0]!.shape;
    for (const [i, input] of node.inputs.entries()) {
      const product = builder.producer(input, 'BatchMatMul');
      const term = node.inputs[1 - i]!;
      if (!product || uses.get(input) !== 1 || product.inputs.some(({ shape }) => shape.length !== 2))
        continue;
      if (input.shape[0] !== m || input.shape[1] !== n || !addable(term, [m!, n!])) continue;
      return builder.add('Gemm', [...product.inputs, term], product.attributes, node.outputs);
    }
    return null;
  });
}
