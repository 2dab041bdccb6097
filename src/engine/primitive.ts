// How compound ops are made: one node where a program is traced, a composition of plain ops where it runs eagerly, and
// gradients of their own. Which compound ops there are is in ops.ts.
import type { NamedTensorMap, Tensor } from '@tensorflow/tfjs';
import { COMPOSITIONS, type OwnOp } from './compositions.ts';
import type { Attributes } from './kernels.ts';
import { tf } from './tf.ts';

/** The backend whose kernels record; see trace.ts. */
export const TRACE_BACKEND = 'trace';

/** The op's outputs: recorded as one node while tracing, else composed of plain ops. */
export function primitive(op: OwnOp, inputs: Record<string, Tensor>, attributes: Attributes): Tensor[] {
  if (tf.getBackend() !== TRACE_BACKEND) return COMPOSITIONS[op](inputs, attributes);
  return [tf.engine().runKernel(op, inputs as never, attributes as never)].flat() as Tensor[];
}

type Saved = Tensor[];

export interface Differentiable<Name extends string> {
  /** An optional one may be absent. */
  readonly inputs: { readonly [Each in Name]?: Tensor };
  /** The outputs, and what the gradients need of what was computed (inputs included). */
  forward(): { outputs: Tensor[]; save: Tensor[] };
  /** Gradient by input, given the outputs' gradients; only those are computed that are asked for. An input without one is a constant. */
  readonly gradients: Partial<Record<Name, (dys: readonly Tensor[], saved: Saved) => Tensor>>;
}

interface Recorder {
  runKernelFunc(call: {
    forwardFunc(backend: unknown, save: (tensors: Tensor[]) => void): Tensor[];
    backwardsFunc(dys: Tensor | Tensor[], saved: Saved): Record<string, () => Tensor>;
    inputs: NamedTensorMap;
  }): Tensor[];
}

/** Like `tf.customGrad`, which computes every gradient whether asked for or not and has one output only. */
export function differentiable<Name extends string>({
  inputs,
  forward,
  gradients,
}: Differentiable<Name>): Tensor[] {
  return (tf.engine() as unknown as Recorder).runKernelFunc({
    forwardFunc(_backend, save) {
      const { outputs, save: saved } = forward();
      save(saved);
      return outputs;
    },
    backwardsFunc: (dys, saved) =>
      Object.fromEntries(
        (Object.keys(inputs) as Name[]).map(name => [
          name,
          () => gradients[name]?.([dys].flat(), saved) ?? tf.zerosLike(inputs[name]!),
        ]),
      ),
    inputs: inputs as NamedTensorMap,
  });
}
