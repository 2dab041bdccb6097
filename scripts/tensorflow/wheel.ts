// The `wheel` source: the npm package's binding, compiled here against the library and headers inside TensorFlow's PyPI wheel.
// Python only fetches and unpacks: none of TensorFlow's Python is installed or run.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { say, type Target } from './source.ts';

const TENSORFLOW_VERSION = '2.21.0';

/** The library is the same in the wheels for every Python, so the wheel is chosen for this one whatever Python is there. */
const PYTHON_OF_WHEEL = '3.12';

const PLATFORMS: Record<string, readonly string[]> = {
  'linux x64': [
    'manylinux_2_28_x86_64',
    'manylinux_2_27_x86_64',
    'manylinux_2_17_x86_64',
    'manylinux2014_x86_64',
  ],
  'linux arm64': [
    'manylinux_2_28_aarch64',
    'manylinux_2_27_aarch64',
    'manylinux_2_17_aarch64',
    'manylinux2014_aarch64',
  ],
};

/** What is unpacked of a wheel: the C library, the headers that the binding includes, and CUDA's libraries. */
const UNPACKED = [
  'tensorflow/libtensorflow_',
  'tensorflow/include/tensorflow/c/',
  'tensorflow/include/tensorflow/core/platform/',
  'tensorflow/include/tsl/platform/',
  'tensorflow/include/xla/tsl/c/',
  'nvidia/',
];

const UNPACK_SCRIPT = `
import sys, zipfile
archive, folder, *prefixes = sys.argv[1:]
with zipfile.ZipFile(archive) as wheel:
    for name in wheel.namelist():
        if name.startswith(tuple(prefixes)): wheel.extract(name, folder)
        if name.endswith('.dist-info/METADATA'): print(wheel.read(name).decode())
`;

function runs(command: string, args: readonly string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0;
}

function findTool(
  candidates: readonly (string | undefined)[],
  args: readonly string[],
  missing: string,
): string {
  const found = candidates.find(command => command && runs(command, args));
  if (!found) throw new Error(missing);
  return found;
}

const findPython = (): string =>
  findTool(
    [process.env.PYTHON, 'python3', 'python'],
    ['-m', 'pip', '--version'],
    'python3 with pip is missing; install it (Debian, Ubuntu: apt install python3-pip; Fedora: dnf install python3-pip) or name one in PYTHON',
  );

const findCompiler = (): string =>
  findTool(
    [process.env.CXX, 'g++', 'clang++'],
    ['--version'],
    'a C++ compiler is missing; install one (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++) or name one in CXX',
  );

/** Fetches one wheel and unpacks what is needed of it. -> the wheel's metadata */
function unpackWheel(python: string, requirement: string, folder: string): string {
  const downloads = join(folder, 'download');
  rmSync(downloads, { recursive: true, force: true });
  const platforms = PLATFORMS[`${process.platform} ${process.arch}`]!;
  const wanted = [
    '--no-deps',
    '--only-binary=:all:',
    '--implementation',
    'cp',
    '--python-version',
    PYTHON_OF_WHEEL,
  ];
  const args = [
    ...wanted,
    ...platforms.flatMap(platform => ['--platform', platform]),
    '-d',
    downloads,
    requirement,
  ];
  const pip = ['-m', 'pip', 'download', '--disable-pip-version-check', ...args];
  if (spawnSync(python, pip, { stdio: ['ignore', 2, 2] }).status !== 0)
    throw new Error(`pip could not fetch ${requirement}; it says why above`);
  const [archive] = readdirSync(downloads);
  say(`unpacking ${archive}`);
  const unpack = ['-c', UNPACK_SCRIPT, join(downloads, archive!), folder, ...UNPACKED];
  const metadata = execFileSync(python, unpack, { encoding: 'utf8', maxBuffer: 2 ** 24 });
  rmSync(downloads, { recursive: true });
  return metadata;
}

/** `Requires-Dist: nvidia-cublas-cu12<13.0,>=12.5; extra == "and-cuda"` -> `nvidia-cublas-cu12<13.0,>=12.5` */
export const cudaRequirements = (metadata: string): string[] =>
  [...metadata.matchAll(/^Requires-Dist: (nvidia-[^;]+);.*extra == ["']and-cuda["']/gm)].map(([, name]) =>
    name!.trim(),
  );

/** Once: a file beside the unpacked wheel says that all of it is there. */
function fetchLibrary(folder: string, device: Target['device']): void {
  const name = device === 'cuda' || process.arch !== 'x64' ? 'tensorflow' : 'tensorflow-cpu';
  const requirement = `${name}==${TENSORFLOW_VERSION}`;
  const stamp = join(folder, 'unpacked');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === `${device} ${requirement}`) return;
  const python = findPython();
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  say(`fetching the wheel ${requirement}${device === 'cuda' ? ' and the CUDA libraries, several GB' : ''}`);
  const metadata = unpackWheel(python, requirement, folder);
  if (device === 'cuda') for (const needed of cudaRequirements(metadata)) unpackWheel(python, needed, folder);
  writeFileSync(stamp, `${device} ${requirement}`);
}

function compileBinding(compiler: string, { home, packageFolder }: Target): void {
  const library = join(home, 'wheel', 'tensorflow');
  const output = join(packageFolder, 'lib', 'napi-v8', 'tfjs_binding.node');
  mkdirSync(join(packageFolder, 'lib', 'napi-v8'), { recursive: true });
  say(`compiling the binding with ${compiler}`);
  const headers = [join(library, 'include'), join(home, 'node_modules', 'node-api-headers', 'include')];
  const sources = ['tfjs_backend.cc', 'tfjs_binding.cc'].map(file => join(packageFolder, 'binding', file));
  // From lib/napi-v8 of the package to the wheel, so that the whole folder can be moved.
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

/** -> the library's version. */
export async function setUpWheel(target: Target): Promise<string> {
  if (!PLATFORMS[`${process.platform} ${process.arch}`])
    throw new Error(
      `there is no set-up for ${process.platform} ${process.arch}, only for ${Object.keys(PLATFORMS).join(', ')}`,
    );
  const compiler = findCompiler();
  fetchLibrary(join(target.home, 'wheel'), target.device);
  compileBinding(compiler, target);
  return TENSORFLOW_VERSION;
}
