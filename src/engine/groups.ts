// Mixture-of-experts products: each row is multiplied by one of several matrices, chosen at run time. Rows of the same
// group are gathered together, so no row is multiplied by a matrix that is not its own. The caller chooses the groups.
import type { Tensor } from '@tensorflow/tfjs';
import { differentiable, primitive } from './primitive.ts';
import { tf } from './tf.ts';

/** Each of n rows is in `each` groups. All of it is discrete: nothing has a gradient. */
export interface Groups {
  readonly each: number;
  /** Rows per group: [groups] int32, n * each in total. */
  readonly sizes: Tensor;
  /** Destination of each (row, choice) pair when rows are grouped, and the inverse permutation: [n * each] int32. */
  readonly places: Tensor;
  readonly order: Tensor;
}

/** picks [n, each, groups] float32, one-hot in the last axis. The order within a group is stable. */
export function groupRows(picks: Tensor): Groups {
  const [n, each, count] = picks.shape as [number, number, number];
  const own = tf.cast(tf.reshape(picks, [n * each, count]), 'int32');
  const sizes = tf.sum(own, 0);
  const before = tf.add(tf.cumsum(own, 0, true), tf.reshape(tf.cumsum(sizes, 0, true), [1, count]));
  const places = tf.sum(tf.mul(before, own), 1);
  const order = tf.scatterND(
    tf.expandDims(places, 1) as never,
    tf.range(0, n * each, 1, 'int32') as never,
    [n * each] as never,
  );
  return { each, sizes, places, order };
}

/** x [n, width] -> [n * each, width], grouped. */
export function layTogether(x: Tensor, { each, places, order }: Groups): Tensor {
  const [n, width] = x.shape as [number, number];
  return differentiable({
    inputs: { x },
    forward: () => ({
      outputs: [tf.gather(x, tf.floorDiv(order, tf.scalar(each, 'int32')) as never)],
      save: [places],
    }),
    gradients: {
      x: ([dy], [places]) => tf.sum(tf.reshape(tf.gather(dy!, places as never), [n, each, width]), 1),
    },
  })[0]!;
}

/** The inverse of `layTogether`: [n * each, width] -> [n, each, width]. */
export function layApart(x: Tensor, { each, places, order }: Groups): Tensor {
  const [rows, width] = x.shape as [number, number];
  return differentiable({
    inputs: { x },
    forward: () => ({
      outputs: [tf.reshape(tf.gather(x, places as never), [rows / each, each, width])],
      save: [order],
    }),
    gradients: { x: ([dy], [order]) => tf.gather(tf.reshape(dy!, [rows, width]), order as never) },
  })[0]!;
}

const asList = (tensors: readonly Tensor[]): Record<string, Tensor> =>
  Object.fromEntries(tensors.map((tensor, i) => [String(i), tensor]));

/**
 * x [rows, in] -> [rows, out]: the first sizes[0] rows times weights[0]^T, weights [out, in], the next sizes[1] rows
 * times weights[1]^T, and so on.
 */
export function groupProduct(x: Tensor, sizes: Tensor, weights: readonly Tensor[]): Tensor {
  const product = (x: Tensor, transposeB: boolean, [sizes, ...matrices]: readonly Tensor[]): Tensor =>
    primitive('GroupProduct', asList([x, sizes!, ...matrices]), { transposeB })[0]!;
  const ofWeight =
    (group: number) =>
    ([dy]: readonly Tensor[], [sizes, x]: Tensor[]): Tensor =>
      primitive('GroupProductGrad', asList([dy!, x!, sizes!]), { groups: weights.length })[group]!;
  return differentiable({
    inputs: { x, ...asList(weights) },
    forward: () => ({
      outputs: [product(x, true, [sizes, ...weights])],
      save: [sizes, x, ...weights],
    }),
    gradients: {
      x: ([dy], [sizes, , ...weights]) => product(dy!, false, [sizes!, ...weights]),
      ...Object.fromEntries(weights.map((_, group) => [String(group), ofWeight(group)])),
    },
  })[0]!;
}
