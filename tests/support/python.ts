// Python with extra packages, for tests in which Python programs read our files or call our API. Installed once, into the git-ignored
// build/test-tools. Without Python and pip, or without a package index, these tests are skipped.
import { execFile, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const TOOLS = join(import.meta.dirname, '../../build/test-tools');
const INSTALL_TIMEOUT_MS = 300_000;

export interface Python {
  /** Runs a script with arguments; resolves to its stdout, rejects with its stderr. */
  run(script: string, args?: readonly string[], environment?: Record<string, string>): Promise<string>;
}

/** Null if unavailable. Packages are pinned requirements: `gguf==0.19.0`. */
export function usePython(packages: readonly string[]): Python | null {
  const program = [process.env.PYTHON, 'python3', 'python'].find(
    command => command && spawnSync(command, ['-m', 'pip', '--version'], { stdio: 'ignore' }).status === 0,
  );
  if (!program) {
    process.stderr.write(`python: none with pip is here, so tests with ${packages.join(' ')} are skipped\n`);
    return null;
  }
  const folder = join(
    TOOLS,
    `python-${createHash('sha256').update(packages.join()).digest('hex').slice(0, 12)}`,
  );
  if (!existsSync(folder) && !install(program, packages, folder)) return null;
  const run = promisify(execFile);
  return {
    async run(script, args = [], environment = {}) {
      const env = { ...process.env, PYTHONPATH: folder, PYTHONDONTWRITEBYTECODE: '1', ...environment };
      const { stdout } = await run(program, ['-c', script, ...args], { env, maxBuffer: 2 ** 26 });
      return stdout;
    },
  };
}

/** Installs into a temporary folder and renames it. */
function install(program: string, packages: readonly string[], folder: string): boolean {
  const partial = `${folder}.${process.pid}.partial`;
  mkdirSync(partial, { recursive: true });
  const args = [
    '-m',
    'pip',
    'install',
    '--quiet',
    '--disable-pip-version-check',
    '--target',
    partial,
    ...packages,
  ];
  const { status, stderr } = spawnSync(program, args, { encoding: 'utf8', timeout: INSTALL_TIMEOUT_MS });
  if (status !== 0) {
    process.stderr.write(`python: ${packages.join(' ')} cannot be installed: ${stderr.trim().slice(-300)}\n`);
    rmSync(partial, { recursive: true, force: true });
    return false;
  }
  try {
    renameSync(partial, folder);
  } catch (error) {
    rmSync(partial, { recursive: true, force: true });
    if (!existsSync(folder)) throw error; // another process was first
  }
  return true;
}
