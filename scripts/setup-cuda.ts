// Sets up ONNX Runtime's CUDA provider in .cuda/: `npm run setup:cuda`. The provider comes from the wheel `onnxruntime-gpu` in the version
// of the npm package, the CUDA libraries from the wheels that it requires. The driver must be installed.
// `--without-test` is for machines without a GPU, such as when a container image is built.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { CUDA_HOME, cudaEnvironment, STAMP } from '../src/engine/onnx/cuda.ts';
import { linkProviders, ONNX_RUNTIME, PROVIDER_FILES } from './setup/cuda-provider.ts';
import { holdLock } from './setup/lock.ts';
import { say } from './setup/say.ts';
import { findPython, nvidiaRequirements, unpackWheel, unpackWithRequirements } from './setup/wheels.ts';

const EXTRAS = ['cuda', 'cudnn'];

/** Only once: a stamp file, written last, marks complete libraries. */
function fetchLibraries(): void {
  const requirement = `onnxruntime-gpu==${ONNX_RUNTIME.version}`;
  const stamp = join(CUDA_HOME, STAMP);
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === requirement) return;
  const python = findPython();
  for (const folder of ['onnxruntime', 'nvidia'])
    rmSync(join(CUDA_HOME, folder), { recursive: true, force: true });
  say(`fetching the wheel ${requirement} and the CUDA libraries, about 1.5 GB`);
  const prefixes = [...PROVIDER_FILES, 'nvidia/'];
  const unpacking = { python, folder: CUDA_HOME, prefixes };
  const metadata = unpackWheel(requirement, unpacking);
  unpackWithRequirements(nvidiaRequirements(metadata, EXTRAS), unpacking);
  writeFileSync(stamp, requirement);
}

/** Multiplies matrices on the device, in a child process, which incompatible libraries may crash. */
function measure(): string {
  const script = join(import.meta.dirname, 'setup', 'onnx-rate.ts');
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [script, 'cuda'], {
    encoding: 'utf8',
    env: cudaEnvironment(),
  });
  if (status === 0) return stdout.trim();
  throw new Error(`it does not run (${signal ?? `exit code ${status}`})\n${stderr.trim()}`);
}

const { values } = parseArgs({ options: { 'without-test': { type: 'boolean' } } });
mkdirSync(CUDA_HOME, { recursive: true });
await holdLock(join(CUDA_HOME, 'lock'));
try {
  fetchLibraries();
  linkProviders();
  const seen = values['without-test'] ? 'not tried' : measure();
  say(`CUDA is set up for ONNX Runtime ${ONNX_RUNTIME.version}: ${seen}`);
  say('use it with ANNEAL_DEVICE=cuda; run this again when the packages were installed anew');
} catch (error) {
  say((error as Error).message);
  say('CUDA is not set up; ANNEAL_DEVICE=cpu needs no set-up');
  process.exitCode = 1;
}
