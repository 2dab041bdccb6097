// The `tensorflow` engine: programs are traced once, improved by passes and run node by node on native TensorFlow.
// What runs a node is in interpret.ts, where the native library comes from in tensorflow-backend.ts.
import type { EngineOptions } from './engine.ts';
import type { Pass } from './graph.ts';
import { interpretingEngine } from './interpret.ts';
import { removeBroadcasts } from './passes/broadcasts.ts';
import { foldConstants } from './passes/constants.ts';
import { removeDead } from './passes/dead.ts';
import { removeIdentities } from './passes/identities.ts';
import { joinLosses } from './passes/losses.ts';
import { mergeEqual } from './passes/merge.ts';
import { foldIntoProducts } from './passes/products.ts';
import { moveReshapes } from './passes/reshapes.ts';
import type { Engine } from './program.ts';
import { registerTensorflow, TENSORFLOW_BACKEND, tensorflowIsSetUp } from './tensorflow-backend.ts';

/** Those that make less work of any kind; the rest makes ops that only ONNX Runtime has. */
export const TENSORFLOW_PASSES: readonly Pass[] = [
  removeDead,
  removeIdentities,
  removeBroadcasts,
  removeIdentities,
  foldConstants,
  moveReshapes,
  removeIdentities,
  mergeEqual,
  joinLosses,
  foldIntoProducts,
  foldIntoProducts,
  removeDead,
];

/** Throws when the engine is not set up or has no such device. */
export async function openTensorflowEngine(
  options: EngineOptions,
  passes: readonly Pass[] = TENSORFLOW_PASSES,
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
