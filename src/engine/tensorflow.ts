// The `tensorflow` engine: programs are traced once, improved by passes and run node by node on native TensorFlow.
// What runs a node is in interpret.ts, where the native library comes from in tensorflow-backend.ts.
import type { EngineOptions } from './engine.ts';
import type { Pass } from './graph.ts';
import { interpretingEngine } from './interpret.ts';
import { PORTABLE_PASSES } from './passes.ts';
import type { Engine } from './program.ts';
import { registerTensorflow, TENSORFLOW_BACKEND, tensorflowIsSetUp } from './tensorflow-backend.ts';

/** Throws when the engine is not set up or has no such device. */
export async function openTensorflowEngine(
  options: EngineOptions,
  passes: readonly Pass[] = PORTABLE_PASSES,
): Promise<Engine> {
  if (options.device === 'webgpu')
    throw new Error('the tensorflow engine runs on cpu or cuda, not on webgpu');
  if (!tensorflowIsSetUp())
    throw new Error('the tensorflow engine is not set up here: run `npm run setup:tensorflow`');
  const { isUsingGpuDevice } = registerTensorflow(options);
  if (options.device === 'cuda' && !isUsingGpuDevice)
    throw new Error(
      'the tensorflow engine finds no CUDA device: `npm run setup:tensorflow -- --device cuda` sets it up and says why not',
    );
  return interpretingEngine('tensorflow', isUsingGpuDevice ? 'cuda' : 'cpu', TENSORFLOW_BACKEND, passes);
}
