// Loads the native TensorFlow that `npm run setup:tensorflow` puts into .tensorflow/ and registers it with
// TensorFlow.js.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onBackend } from './eager.ts';
import type { EngineOptions } from './engine.ts';
import { tf } from './tf.ts';

/** The backend's name in TensorFlow.js. */
export const TENSORFLOW_BACKEND = 'tensorflow';
const require = createRequire(import.meta.url);

/** The folder that the setup fills; git does not see it. */
export const TENSORFLOW_HOME = join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), '.tensorflow');

/** What the setup leaves behind when all of it has worked. */
export interface TensorflowSetup {
  /** The npm package whose binding was set up. */
  readonly packageName: '@tensorflow/tfjs-node' | '@tensorflow/tfjs-node-gpu';
  /** Version of the native library. */
  readonly tensorflow: string;
  /** `stock`: as published with the npm package; `wheel`: its binding built on the library of the PyPI wheel. */
  readonly source: 'stock' | 'wheel';
}

/** Written when the set-up has worked. */
export const TENSORFLOW_SETUP = join(TENSORFLOW_HOME, 'setup.json');

export const tensorflowIsSetUp = (): boolean => existsSync(TENSORFLOW_SETUP);

/** Settings that the native library takes from its environment, and only when it is loaded. */
function settings({ device, threads }: EngineOptions): Record<string, string> {
  return {
    TF_CPP_MIN_LOG_LEVEL: '2',
    // Otherwise the first process on a GPU takes all of its memory.
    TF_FORCE_GPU_ALLOW_GROWTH: 'true',
    ...(threads > 0 && { TF_NUM_INTRAOP_THREADS: String(threads), OMP_NUM_THREADS: String(threads) }),
    ...(device === 'cpu' && { CUDA_VISIBLE_DEVICES: '-1' }),
  };
}

/** The package calls functions of `node:util` that Node 23 removed. */
function mendUtil(): void {
  const util = require('node:util');
  util.isNullOrUndefined = (value: unknown) => value === null || value === undefined;
  util.isArray = Array.isArray;
}

/**
 * Loads the binding and registers its backend and kernels, as the package's index does, without what only that index
 * needs. Device and threads are those of the first call in a process: the library reads them once. Returns whether it
 * runs on a GPU.
 */
export function registerTensorflow(options: EngineOptions): { readonly isUsingGpuDevice: boolean } {
  if (!tf.findBackendFactory(TENSORFLOW_BACKEND)) loadBackend(options);
  return onBackend(TENSORFLOW_BACKEND, () => tf.backend() as unknown as { isUsingGpuDevice: boolean });
}

function loadBackend(options: EngineOptions): void {
  const { packageName } = require(TENSORFLOW_SETUP) as TensorflowSetup;
  const folder = join(TENSORFLOW_HOME, 'node_modules', packageName);
  for (const [name, value] of Object.entries(settings(options))) process.env[name] ??= value;
  mendUtil();
  const binding = require(join(folder, 'lib', 'napi-v8', 'tfjs_binding.node'));
  require(join(folder, 'dist', 'register_all_kernels.js'));
  const { NodeJSKernelBackend } = require(join(folder, 'dist', 'nodejs_kernel_backend.js'));
  tf.registerBackend(TENSORFLOW_BACKEND, () => new NodeJSKernelBackend(binding, packageName));
}
