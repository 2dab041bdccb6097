// How the process of a Python grader is started: what the operating system and Node keep from it. Several walls, because none of
// them is meant to hold alone against hostile code:
//   - WebAssembly: Python has its own memory and files, and reaches JavaScript only through Pyodide;
//   - JavaScript (child.ts): no code from texts, no module, none of Node's globals, an empty object for Python's `js`;
//   - Node's permission model: reads of Pyodide's own files, nothing else: no write, process, thread, add-on;
//   - the kernel: an empty environment, limits of CPU time, files and their sizes, a low priority; on Linux, where it may be
//     done, namespaces without a network and without other processes.
// Memory is watched by the parent (process.ts): an address space limit would hit the guard regions of WebAssembly.
import { spawnSync } from 'node:child_process';
import { realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

export interface Confinement {
  readonly command: string;
  readonly args: readonly string[];
  /** The kernel gives the process no network. */
  readonly networkless: boolean;
  /** The process is a child of the one that is started. */
  readonly wrapped: boolean;
}

export interface PythonLimits {
  /** Of Python's memory. */
  memoryBytes: number;
  /** Of CPU time, over the process's whole life. */
  cpuSeconds: number;
}

const MODULE = join(import.meta.dirname, 'child.ts');
const PACKAGE = join(import.meta.dirname, '../../../package.json');
const HEAP_MB = 256;

const NAMESPACES = ['--net', '--ipc', '--uts', '--pid', '--fork', '--kill-child'];
/** A user's own namespace needs no rights; root may do without one, where those are forbidden. */
const WAYS = [['--user', '--map-current-user', ...NAMESPACES], NAMESPACES];

/** Looks what this machine allows; of use for every process that follows. */
export function findConfinement(limits: PythonLimits): Confinement {
  const node = nodeCommand(limits);
  const unshare = process.platform === 'linux' ? WAYS.find(isAllowed) : undefined;
  if (!unshare) return { command: node[0]!, args: node.slice(1), networkless: false, wrapped: false };
  return { command: 'unshare', args: [...unshare, ...node], networkless: true, wrapped: true };
}

function isAllowed(flags: readonly string[]): boolean {
  return spawnSync('unshare', [...flags, 'true'], { stdio: 'ignore', timeout: 5000 }).status === 0;
}

function nodeCommand({ memoryBytes, cpuSeconds }: PythonLimits): string[] {
  const pyodide = dirname(realpathSync(createRequire(import.meta.url).resolve('pyodide/pyodide.mjs')));
  const node = [
    process.execPath,
    '--permission',
    ...[join(import.meta.dirname, '*'), join(pyodide, '*'), PACKAGE].map(path => `--allow-fs-read=${path}`),
    '--disallow-code-generation-from-strings',
    `--max-old-space-size=${HEAP_MB}`,
    MODULE,
    pathToFileURL(join(pyodide, 'pyodide.mjs')).href,
    String(memoryBytes),
  ];
  if (process.platform === 'win32') return node;
  const limits = `ulimit -c 0; ulimit -f 0; ulimit -n 64; ulimit -t ${cpuSeconds}`;
  return ['sh', '-c', `${limits}; exec nice -n 10 "$@"`, 'sh', ...node];
}
