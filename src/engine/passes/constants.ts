// Constant folding, in plain TensorFlow.js.
import type { Tensor } from '@tensorflow/tfjs';
import { sizeOf, toHostArray } from '../arrays.ts';
import { COMPOSITIONS, type OwnOp } from '../compositions.ts';
import { onBackend } from '../eager.ts';
import { type Graph, type Node, rewrite } from '../graph.ts';
import { KERNELS, type Kernel, type OpName } from '../kernels.ts';
import type { DType, HostArray } from '../program.ts';
import { tf } from '../tf.ts';

/** Larger results would only make the model larger. */
const LARGEST_RESULT = 1 << 20;

/** Ops without a kernel in TensorFlow.js, and ops whose result is much larger than their input. */
const KEPT: ReadonlySet<string> = new Set<OpName>([
  ...(Object.keys(COMPOSITIONS) as OwnOp[]),
  'Gemm',
  'After',
  'BroadcastTo',
  'Tile',
  'StridedSlice',
]);

function compute({ op, inputs, attributes }: Node, data: readonly HostArray[]): HostArray[] {
  return onBackend('cpu', () => {
    tf.engine().startScope();
    try {
      const tensors = inputs.map(({ shape, dtype }, i) => tf.tensor(data[i]!.slice(), shape.slice(), dtype));
      const names = (KERNELS[op] as Kernel).inputs;
      const named =
        names === 'list' ? tensors : Object.fromEntries(tensors.map((tensor, i) => [names[i]!, tensor]));
      const results = [tf.engine().runKernel(op, named as never, attributes as never)].flat() as Tensor[];
      return results.map(tensor => toHostArray(tensor.dtype as DType, tensor.dataSync()).slice());
    } finally {
      tf.engine().endScope();
    }
  });
}

export const foldConstants = (graph: Graph): Graph =>
  rewrite(graph, (node, builder) => {
    // `alpha` is our own attribute of products (passes/products.ts); TensorFlow.js would ignore it.
    if (KEPT.has(node.op) || node.inputs.length === 0 || node.attributes.alpha !== undefined) return null;
    const data = node.inputs.map(input => builder.constants.get(input));
    if (data.some(array => array === undefined)) return null;
    if (node.outputs.some(({ shape }) => sizeOf(shape) > LARGEST_RESULT)) return null;
    return compute(node, data as HostArray[]).map((result, i) => builder.constant(node.outputs[i]!, result));
  });
