// Packs what a machine with a GPU and no network needs besides this repository's own files: Node, npm packages, ONNX Runtime's CUDA
// provider. `node benchmarks/gpu/pack.ts [--piece-mib 32] [--into .gpu/pieces] [--without-cuda]`. CUDA's own libraries are not in it: they
// come with the PyTorch of that machine. What to do there is in docs/performance.md.
import { existsSync, readFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ONNX_RUNTIME, PROVIDER_FILES } from '../../scripts/setup/cuda-provider.ts';
import { findPython, unpackWheel } from '../../scripts/setup/wheels.ts';
import { CUDA_HOME } from '../../src/engine/onnx/cuda.ts';
import { packageFiles } from './packages.ts';
import { type Packed, writePieces } from './pieces.ts';

const root = join(import.meta.dirname, '../..');
const { values } = parseArgs({
  options: {
    'piece-mib': { type: 'string', default: '32' },
    into: { type: 'string', default: join(root, '.gpu/pieces') },
    'without-cuda': { type: 'boolean', default: false },
  },
});
const MIB = 2 ** 20;

/** As `npm run setup:cuda` laid it down, else from the wheel. */
function providerFiles(): Packed[] {
  const laid = PROVIDER_FILES.every(file => existsSync(join(CUDA_HOME, file)));
  const folder = laid ? CUDA_HOME : join(root, '.gpu/wheel');
  if (!laid) {
    const unpacking = { python: findPython(), folder, prefixes: PROVIDER_FILES };
    unpackWheel(`onnxruntime-gpu==${ONNX_RUNTIME.version}`, unpacking);
  }
  return PROVIDER_FILES.map(file => ({ path: join(folder, file), name: `.cuda/${file}` }));
}

const packages = (await packageFiles(root)).map(name => ({ path: join(root, name), name }));
const files: Packed[] = [
  { path: process.execPath, name: '.gpu/bin/node' },
  ...packages,
  ...(values['without-cuda'] ? [] : providerFiles()),
];
const count = await writePieces(files, values.into, Math.round(Number(values['piece-mib']) * MIB));
const sizes = await Promise.all(files.map(({ path }) => stat(path)));
const bytes = sizes.reduce((sum, { size }) => sum + size, 0);
const sums = readFileSync(join(values.into, 'sums'), 'utf8').trim().split('\n');
console.log(
  `${files.length} files, ${Math.round(bytes / MIB)} MiB, in ${count} pieces of at most ${values['piece-mib']} MiB:`,
);
console.log(sums.map(line => `  ${join(values.into, line.split('  ')[1]!)}`).join('\n'));
