// Runs programs op by op on a TensorFlow.js backend. It traces and compiles nothing.
import type { Tensor } from '@tensorflow/tfjs';
import { checkArrays, ProgramError, toHostArray } from './arrays.ts';
import type { DType, Engine, Executable, HostArrays, Program, TensorSpec, Tensors } from './program.ts';
import { tf } from './tf.ts';
import { readWeight } from './weights.ts';

/** Runs `body` on a registered backend that initializes synchronously, then restores the previous backend. */
export function onBackend<T>(backend: string, body: () => T): T {
  const before = tf.getBackend();
  void tf.setBackend(backend);
  if (tf.getBackend() !== backend) throw new ProgramError(`TensorFlow.js has no backend '${backend}'`);
  try {
    return body();
  } finally {
    if (before !== backend) void tf.setBackend(before);
  }
}

const specOf = (tensor: Tensor): TensorSpec => ({
  shape: tensor.shape.slice(),
  dtype: tensor.dtype as DType,
});

/** Shapes and types of a program's outputs, found by running it once on zeros. */
function probeOutputs(backend: string, program: Program, weights: Tensors): Record<string, TensorSpec> {
  return onBackend(backend, () => {
    tf.engine().startScope();
    try {
      const inputs = Object.fromEntries(
        Object.entries(program.inputs).map(([name, { shape, dtype }]) => [
          name,
          tf.zeros(shape.slice(), dtype),
        ]),
      );
      const outputs = program.run(inputs, weights);
      return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, specOf(tensor)]));
    } finally {
      tf.engine().endScope();
    }
  });
}

function runOnce(backend: string, program: Program, weights: Tensors, inputs: HostArrays, into: HostArrays) {
  return onBackend(backend, () => {
    const results: HostArrays = {};
    tf.engine().startScope();
    try {
      const fed = Object.fromEntries(
        Object.entries(program.inputs).map(([name, { shape, dtype }]) => [
          name,
          // A copy: the plain backend would keep the caller's array, which changes between runs.
          tf.tensor(inputs[name]!.slice(), shape.slice(), dtype),
        ]),
      );
      for (const [name, tensor] of Object.entries(program.run(fed, weights))) {
        const values = toHostArray(tensor.dtype as DType, tensor.dataSync());
        if (into[name]) into[name].set(values);
        results[name] = into[name] ?? values.slice();
      }
    } finally {
      tf.engine().endScope();
    }
    return results;
  });
}

/** An engine on a TensorFlow.js backend that is already registered under the name `backend`. */
export function eagerEngine(name: string, device: string, backend: string): Engine {
  return {
    name,
    device,
    async compile(program: Program): Promise<Executable> {
      const weights: Tensors = {};
      for (const [key, stored] of Object.entries(program.weights)) {
        const values = await readWeight(stored);
        weights[key] = onBackend(backend, () => tf.keep(tf.tensor(values, stored.shape.slice(), 'float32')));
      }
      const outputs = probeOutputs(backend, program, weights);
      return {
        outputs,
        async run(inputs: HostArrays, into: HostArrays = {}) {
          checkArrays(`${program.name}: input`, program.inputs, inputs);
          checkArrays(`${program.name}: output`, outputs, into, { partial: true });
          return runOnce(backend, program, weights, inputs, into);
        },
        async close() {
          for (const weight of Object.values(weights)) weight.dispose();
        },
      };
    },
  };
}
