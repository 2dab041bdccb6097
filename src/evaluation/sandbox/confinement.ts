// Command line that confines the process of a Python grader, by means of the operating system and of Node. Defence in depth, because no
// layer is expected to stop hostile code alone:
//   - WebAssembly: Python has its own memory and file system, and reaches JavaScript only through Pyodide;
//   - JavaScript (child.ts): no code from strings, no modules, none of Node's globals, an empty object as Python's `js`;
//   - Node's permission model: may only read Pyodide's own files; no writes, processes, threads or add-ons;
//   - the kernel: an empty environment, limits on CPU time, open files and file sizes, low priority; on Linux, where allowed,
//     namespaces without network and other processes.
// Memory is monitored by the parent (process.ts), because an address space limit would count the guard regions of WebAssembly.
import { spawnSync } from 'node:child_process';
import { realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

export interface Confinement {
  readonly command: string;
  readonly args: readonly string[];
  /** Whether the process is in a network namespace of its own, without network. */
  readonly networkless: boolean;
  /** Whether the process is a child of the command, which is then `unshare`. */
  readonly wrapped: boolean;
}

export interface PythonLimits {
  /** Of Python's heap. */
  memoryBytes: number;
  /** CPU time over the lifetime of the process. */
  cpuSeconds: number;
}

const MODULE = join(import.meta.dirname, 'child.ts');
const PACKAGE = join(import.meta.dirname, '../../../package.json');
const HEAP_MB = 256;

const NAMESPACES = ['--net', '--ipc', '--uts', '--pid', '--fork', '--kill-child'];
/** A user namespace needs no privileges. Where user namespaces are forbidden, root can do without. */
const WAYS = [['--user', '--map-current-user', ...NAMESPACES], NAMESPACES];

/** Detects what this machine allows; the result is valid for all later processes. */
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
