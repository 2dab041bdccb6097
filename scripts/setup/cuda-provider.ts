// Files of ONNX Runtime's CUDA provider: their paths in the wheel, and where ONNX Runtime expects them. Downloads nothing.
import { readFileSync, rmSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { CUDA_HOME } from '../../src/engine/onnx/cuda.ts';

const packageFile = createRequire(import.meta.url).resolve('onnxruntime-node/package.json');

export const ONNX_RUNTIME = {
  /** Of the npm package; the wheel must have the same. */
  version: JSON.parse(readFileSync(packageFile, 'utf8')).version as string,
  libraries: join(dirname(packageFile), 'bin', 'napi-v6', process.platform, process.arch),
};

/** Paths in the wheel, and under CUDA_HOME. */
export const PROVIDER_FILES = ['shared', 'cuda'].map(
  part => `onnxruntime/capi/libonnxruntime_providers_${part}.so`,
);

/** ONNX Runtime looks for providers in its own folder. */
export function linkProviders(): void {
  for (const file of PROVIDER_FILES) {
    const link = join(ONNX_RUNTIME.libraries, basename(file));
    rmSync(link, { force: true });
    symlinkSync(join(CUDA_HOME, file), link);
  }
}
