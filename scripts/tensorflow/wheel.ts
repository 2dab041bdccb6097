// The `wheel` source: the npm package's binding, compiled locally against the library and headers in TensorFlow's PyPI wheel. Python only
// downloads and unpacks; none of TensorFlow's Python code is installed or run.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { say } from '../setup/say.ts';
import { findPython, findTool, nvidiaRequirements, platformsOfWheels, unpackWheel } from '../setup/wheels.ts';
import type { Target } from './source.ts';

const TENSORFLOW_VERSION = '2.21.0';

/** Files to unpack from the wheel: the C library, the headers that the binding includes, and the CUDA libraries. */
const UNPACKED = [
  'tensorflow/libtensorflow_',
  'tensorflow/include/tensorflow/c/',
  'tensorflow/include/tensorflow/core/platform/',
  'tensorflow/include/tsl/platform/',
  'tensorflow/include/xla/tsl/c/',
  'nvidia/',
];

const findCompiler = (): string =>
  findTool(
    [process.env.CXX, 'g++', 'clang++'],
    ['--version'],
    'a C++ compiler is missing; install one (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++) or name one in CXX',
  );

/** Only once: a stamp file, written last, marks a complete wheel. */
function fetchLibrary(folder: string, device: Target['device']): void {
  const name = device === 'cuda' || process.arch !== 'x64' ? 'tensorflow' : 'tensorflow-cpu';
  const requirement = `${name}==${TENSORFLOW_VERSION}`;
  const stamp = join(folder, 'unpacked');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === `${device} ${requirement}`) return;
  const python = findPython();
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  say(`fetching the wheel ${requirement}${device === 'cuda' ? ' and the CUDA libraries, several GB' : ''}`);
  const unpacking = { python, folder, prefixes: UNPACKED };
  const metadata = unpackWheel(requirement, unpacking);
  if (device === 'cuda')
    for (const needed of nvidiaRequirements(metadata, ['and-cuda'])) unpackWheel(needed, unpacking);
  writeFileSync(stamp, `${device} ${requirement}`);
}

function compileBinding(compiler: string, { home, packageFolder }: Target): void {
  const library = join(home, 'wheel', 'tensorflow');
  const output = join(packageFolder, 'lib', 'napi-v8', 'tfjs_binding.node');
  mkdirSync(join(packageFolder, 'lib', 'napi-v8'), { recursive: true });
  say(`compiling the binding with ${compiler}`);
  const headers = [join(library, 'include'), join(home, 'node_modules', 'node-api-headers', 'include')];
  const sources = ['tfjs_backend.cc', 'tfjs_binding.cc'].map(file => join(packageFolder, 'binding', file));
  // Relative path from the package's lib/napi-v8 to the wheel, so that the folder can be moved.
  const libraryFromOutput = '$ORIGIN/../../../../../wheel/tensorflow';
  const args = [
    ...['-std=c++17', '-O2', '-w', '-fPIC', '-shared', '-DNAPI_VERSION=8'],
    ...headers.map(folder => `-I${folder}`),
    ...sources,
    ...['-L', library, '-l:libtensorflow_cc.so.2', '-l:libtensorflow_framework.so.2'],
    `-Wl,-rpath,${libraryFromOutput}`,
    ...['-o', output],
  ];
  const { status, stderr } = spawnSync(compiler, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${compiler} fails\n${stderr}`);
}

/** -> version of the library */
export async function setUpWheel(target: Target): Promise<string> {
  platformsOfWheels();
  const compiler = findCompiler();
  fetchLibrary(join(target.home, 'wheel'), target.device);
  compileBinding(compiler, target);
  return TENSORFLOW_VERSION;
}
