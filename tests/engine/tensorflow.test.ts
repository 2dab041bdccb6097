// The `tensorflow` engine as it is set up here: devices, leaks, and a training. What it computes is compared in the other tests.
import type { Tensor } from '@tensorflow/tfjs';
import { describe, expect, test } from 'vitest';
import { openEngine } from '../../src/engine/engine.ts';
import { softmaxAttention } from '../../src/engine/ops.ts';
import { TENSORFLOW_BACKEND, tensorflowIsSetUp } from '../../src/engine/tensorflow-backend.ts';
import { tf } from '../../src/engine/tf.ts';
import { collect, eventsOf, toySpec } from '../training/toy-task.ts';
import { f32, programOf } from './programs.ts';

const options = { engine: 'tensorflow', device: 'cpu', threads: 2 } as const;

test('webgpu is refused', async () => {
  await expect(openEngine({ ...options, device: 'webgpu' })).rejects.toThrow('cpu or cuda, not on webgpu');
});

test.skipIf(tensorflowIsSetUp())('without the set-up the error names the command', async () => {
  await expect(openEngine(options)).rejects.toThrow('npm run setup:tensorflow');
});

describe.runIf(tensorflowIsSetUp())('set up', () => {
  test('a CPU is asked for and found; a GPU that was hidden by that is refused', async () => {
    expect((await openEngine(options)).device).toBe('cpu');
    await expect(openEngine({ ...options, device: 'cuda' })).rejects.toThrow('no CUDA device');
  });

  test('runs leave no tensor behind, neither in TensorFlow.js nor in the library', async () => {
    const { program, inputs } = programOf('attention', [f32([1, 2, 4, 3])], (x: Tensor) =>
      tf.grad((x: Tensor) => softmaxAttention(x, x, x, tf.zeros([1, 4, 4]), 1).sum())(x),
    );
    const executable = await (await openEngine(options)).compile(program);
    const held = () => [tf.memory().numTensors, tf.findBackend(TENSORFLOW_BACKEND).numDataIds()];
    await executable.run(inputs);
    const before = held();
    for (let i = 0; i < 5; i++) await executable.run(inputs);
    expect(held()).toEqual(before);
    await executable.close();
  });

  test('a whole training has the losses of the onnx engine', { timeout: 120_000 }, async () => {
    const losses = async (engine: 'onnx' | 'tensorflow') => {
      const events = await collect(toySpec({ engine, hyperparameters: { learning_rate: 0.01 } }));
      expect(eventsOf(events, 'finished')).toHaveLength(1);
      return eventsOf(events, 'step').map(({ metrics }) => metrics.train_loss);
    };
    const [onnx, tensorflow] = [await losses('onnx'), await losses('tensorflow')];
    expect(tensorflow.length).toBe(8);
    expect(tensorflow.at(-1)).toBeLessThan(tensorflow[0]! - 0.5);
    tensorflow.forEach((loss, step) => {
      expect(loss, `step ${step + 1}`).toBeCloseTo(onnx[step]!, 3);
    });
  });
});
