// ONNX's Scan: the same nodes applied to every element along the first axis of some arrays.
import type { OnnxValue } from '../../formats/onnx.ts';
import type { Lowering } from './lowering.ts';

export interface Scanned {
  readonly name: string;
  /** float32; the first axis is iterated over. The named value may have another shape with as many elements. */
  readonly shape: readonly number[];
}

/** Takes the names of the current elements and returns those of the results; it may read values of the outer graph. */
export type Body = (inner: Lowering, names: readonly string[]) => readonly string[];

/** Returns the names of the stacked results; `results` are the shapes per element. */
export function emitScan(
  to: Lowering,
  inputs: readonly Scanned[],
  results: readonly (readonly number[])[],
  body: Body,
): string[] {
  const inner = to.child();
  const value = (name: string, shape: readonly number[]): OnnxValue => ({ name, type: 'float32', shape });
  const parameters = inputs.map(({ shape }) => value(inner.fresh('each'), shape.slice(1)));
  const names = body(
    inner,
    parameters.map(({ name }) => name),
  );
  const made = names.map((name, i) => value(name, results[i]!));
  const outputs = made.map(() => to.fresh('all'));
  to.emit(
    'Scan',
    inputs.map(({ name, shape }) => to.emit('Reshape', [name, to.int64(shape)])),
    {
      attributes: {
        body: { graph: inner.graph('each', parameters, made) },
        num_scan_inputs: { int: inputs.length },
      },
      outputs,
    },
  );
  return outputs;
}
