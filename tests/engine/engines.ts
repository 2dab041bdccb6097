// The engines that a test compares with the plain TensorFlow.js one: `onnx`, and `tensorflow` where it is set up. Not a test itself.

import type { Provider } from '../../src/engine/onnx/lowering.ts';
import { type OnnxOptions, onnxEngine } from '../../src/engine/onnx.ts';
import { PASSES, PORTABLE_PASSES } from '../../src/engine/passes.ts';
import type { Engine } from '../../src/engine/program.ts';
import { openTensorflowEngine } from '../../src/engine/tensorflow.ts';
import { tensorflowIsSetUp } from '../../src/engine/tensorflow-backend.ts';

const OPTIONS: OnnxOptions = { provider: 'cpu', threads: 2, passes: PASSES, profile: null };

/** `TEST_DEVICES=webgpu,cuda`: what this machine has besides its processor. */
export const devicesUnderTest = (): Provider[] =>
  (process.env.TEST_DEVICES ?? '').split(',').filter(device => device !== '') as Provider[];

export async function enginesUnderTest({ passes = true } = {}): Promise<Engine[]> {
  const engines = [onnxEngine({ ...OPTIONS, passes: passes ? PASSES : [] })];
  if (tensorflowIsSetUp())
    engines.push(
      await openTensorflowEngine(
        { engine: 'tensorflow', device: 'cpu', threads: 2 },
        passes ? PORTABLE_PASSES : [],
      ),
    );
  for (const provider of devicesUnderTest())
    engines.push(onnxEngine({ ...OPTIONS, provider, passes: passes ? PASSES : [] }));
  return engines;
}
