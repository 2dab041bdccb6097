// What a measurement was made on: processor, card, driver, versions. And what a device still needs there. It measures nothing.
import { spawnSync } from 'node:child_process';
import { existsSync, lstatSync, symlinkSync, writeFileSync } from 'node:fs';
import { cpus, platform, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { linkProviders, ONNX_RUNTIME, PROVIDER_FILES } from '../../scripts/setup/cuda-provider.ts';
import { CUDA_HOME, cudaIsSetUp, STAMP } from '../../src/engine/onnx/cuda.ts';

export const PYTHON = process.env.PYTHON ?? 'python3';

/** What a command prints; null where it does not run. */
function printed(command: string, args: readonly string[]): string | null {
  const { status, stdout } = spawnSync(command, args, { encoding: 'utf8' });
  return status === 0 ? stdout.trim() : null;
}

const VERSIONS = `
import importlib.metadata, json
def version(name):
    try: return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError: return None
print(json.dumps({name: version(name) for name in ('torch', 'transformers', 'peft')}))
`;

export function describeMachine() {
  const card = printed('nvidia-smi', [
    '--query-gpu=name,memory.total,driver_version',
    '--format=csv,noheader',
  ]);
  return {
    processor: `${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}`,
    memoryBytes: totalmem(),
    system: `${platform()} ${release()}`,
    /** Name, memory and driver. */
    nvidia: card,
    node: process.version,
    onnxruntime: ONNX_RUNTIME.version,
    python: JSON.parse(printed(PYTHON, ['-c', VERSIONS]) ?? '{}') as Record<string, string | null>,
  };
}

const NVIDIA_FOLDER = 'import nvidia; print(next(iter(nvidia.__path__)))';

const isThere = (path: string) => lstatSync(path, { throwIfNoEntry: false }) !== undefined;

/** A provider that came in a bundle takes CUDA's libraries from the Python packages that PyTorch brought. */
export function completeCuda(): void {
  const unpacked = PROVIDER_FILES.every(file => existsSync(join(CUDA_HOME, file)));
  if (!unpacked || cudaIsSetUp()) return;
  const libraries = printed(PYTHON, ['-c', NVIDIA_FOLDER]);
  if (libraries === null) return;
  if (!isThere(join(CUDA_HOME, 'nvidia'))) symlinkSync(libraries, join(CUDA_HOME, 'nvidia'));
  linkProviders();
  writeFileSync(join(CUDA_HOME, STAMP), `onnxruntime-gpu==${ONNX_RUNTIME.version}`);
}
