// Which files of which npm packages a machine needs to run the benchmarks and the engine's tests, read from the lock file. It copies nothing.
import { existsSync, readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join, relative } from 'node:path';

/** What the engine, the models, generation and their tests import. */
const IMPORTED = [
  '@huggingface/jinja',
  '@huggingface/tokenizers',
  '@tensorflow/tfjs',
  'onnxruntime-node',
  'pino',
  'typebox',
  'vitest',
];

/** Nothing that is loaded when a program runs; of ONNX Runtime the libraries of this platform alone. */
const NOT_RUN = [
  /\.map$/,
  /\.d\.[cm]?ts$/,
  /\.md$/,
  /\.min\.js$/,
  /\bfesm?\d*\./,
  new RegExp(`/bin/napi-v\\d+/(?!${process.platform}/${process.arch}/)`),
];

interface Locked {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
}

type Lock = Readonly<Record<string, Locked>>;

/** The folder that `name` is found in from the package in `folder`: its own node_modules, or that of a folder above. */
function findPackage(lock: Lock, folder: string, name: string): string | null {
  const found = `${folder === '' ? '' : `${folder}/`}node_modules/${name}`;
  if (lock[found]) return found;
  if (folder === '') return null;
  return findPackage(lock, folder.slice(0, Math.max(0, folder.lastIndexOf('/node_modules/'))), name);
}

/** Folders of these packages and of all that they depend on, each once. */
export function packageFolders(lock: Lock, names: readonly string[], from = '', found = new Set<string>()) {
  for (const name of names) {
    const folder = findPackage(lock, from, name);
    if (folder === null || found.has(folder)) continue;
    found.add(folder);
    const { dependencies, optionalDependencies, peerDependencies } = lock[folder]!;
    const further = Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies });
    packageFolders(lock, further, folder, found);
  }
  return found;
}

/** Files of a package without those of the packages inside of it. */
async function filesOf(root: string, folder: string): Promise<string[]> {
  const entries = await readdir(join(root, folder), { recursive: true, withFileTypes: true });
  const paths = entries
    .filter(entry => entry.isFile())
    .map(({ parentPath, name }) => relative(root, join(parentPath, name)));
  const own = paths.filter(path => !path.slice(folder.length).includes('/node_modules/'));
  return own.filter(path => !NOT_RUN.some(pattern => pattern.test(path)));
}

/** Paths from `root`, where package-lock.json and node_modules are. Packages for other platforms are not installed here. */
export async function packageFiles(root: string): Promise<string[]> {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  const folders = [...packageFolders(packages, IMPORTED)].filter(folder => existsSync(join(root, folder)));
  return (await Promise.all(folders.map(folder => filesOf(root, folder)))).flat().sort();
}
