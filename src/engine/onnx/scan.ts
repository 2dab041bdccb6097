// ONNX's Scan: the same nodes on every element of some arrays, one after the other. What the nodes are is the caller's affair.
import type { OnnxValue } from '../../formats/onnx.ts';
import type { Lowering } from './lowering.ts';

export interface Scanned {
  readonly name: string;
  /** In float32; the first axis is the one that is run over. A name of another shape with as many numbers is taken as this one. */
  readonly shape: readonly number[];
}

/** Takes the names of elements and returns those of results; it may read what is around it. */
export type Body = (inner: Lowering, names: readonly string[]) => readonly string[];

/** -> the names of the results of all elements, one below the other; `results` are the shapes of one element's. */
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
