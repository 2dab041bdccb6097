// The engines that a test compares with the plain TensorFlow.js one: `onnx`, and `tensorflow` where it is set up. Not a test itself.
import { type OnnxOptions, onnxEngine } from '../../src/engine/onnx.ts';
import { PASSES, PORTABLE_PASSES } from '../../src/engine/passes.ts';
import type { Engine } from '../../src/engine/program.ts';
import { openTensorflowEngine } from '../../src/engine/tensorflow.ts';
import { tensorflowIsSetUp } from '../../src/engine/tensorflow-backend.ts';

const OPTIONS: OnnxOptions = { provider: 'cpu', threads: 2, passes: PASSES, profile: null };

export async function enginesUnderTest({ passes = true } = {}): Promise<Engine[]> {
  const engines = [onnxEngine({ ...OPTIONS, passes: passes ? PASSES : [] })];
  if (tensorflowIsSetUp())
    engines.push(
      await openTensorflowEngine(
        { engine: 'tensorflow', device: 'cpu', threads: 2 },
        passes ? PORTABLE_PASSES : [],
      ),
    );
  return engines;
}
