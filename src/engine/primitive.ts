// Defines compound ops: a single node while tracing, a composition of plain ops when running eagerly, with a custom
// gradient in both cases. The ops themselves are in ops.ts.
import type { NamedTensorMap, Tensor } from '@tensorflow/tfjs';
import { COMPOSITIONS, type OwnOp } from './compositions.ts';
import type { Attributes } from './kernels.ts';
import { tf } from './tf.ts';

/** The backend whose kernels record; see trace.ts. */
export const TRACE_BACKEND = 'trace';

/** Runs the op: one recorded node while tracing, plain ops otherwise. */
export function primitive(op: OwnOp, inputs: Record<string, Tensor>, attributes: Attributes): Tensor[] {
  if (tf.getBackend() !== TRACE_BACKEND) return COMPOSITIONS[op](inputs, attributes);
  return [tf.engine().runKernel(op, inputs as never, attributes as never)].flat() as Tensor[];
}

type Saved = Tensor[];

export interface Differentiable<Name extends string> {
  /** Optional inputs may be undefined. */
  readonly inputs: { readonly [Each in Name]?: Tensor };
  /** The outputs, and the tensors that the gradients need (inputs included). */
  forward(): { outputs: Tensor[]; save: Tensor[] };
  /**
   * Gradient of each input, given those of the outputs; computed only when asked for. Inputs without one are constants.
   */
  readonly gradients: Partial<Record<Name, (dys: readonly Tensor[], saved: Saved) => Tensor>>;
}

interface Recorder {
  runKernelFunc(call: {
    forwardFunc(backend: unknown, save: (tensors: Tensor[]) => void): Tensor[];
    backwardsFunc(dys: Tensor | Tensor[], saved: Saved): Record<string, () => Tensor>;
    inputs: NamedTensorMap;
  }): Tensor[];
}

/** Like `tf.customGrad`, but for several outputs, and gradients that nobody asks for are not computed. */
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
