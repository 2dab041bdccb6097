// Extracts native libraries from wheels of PyPI: downloaded by pip, unpacked in part. Nothing from a wheel is installed or run, and any
// version of Python will do, since the libraries are the same for all.
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { say } from './say.ts';

const PYTHON_OF_WHEEL = '3.12';

const PLATFORMS: Record<string, readonly string[]> = {
  'linux x64': [
    'manylinux_2_28_x86_64',
    'manylinux_2_27_x86_64',
    'manylinux_2_17_x86_64',
    'manylinux2014_x86_64',
    'manylinux1_x86_64',
  ],
  'linux arm64': [
    'manylinux_2_28_aarch64',
    'manylinux_2_27_aarch64',
    'manylinux_2_17_aarch64',
    'manylinux2014_aarch64',
  ],
};

const UNPACK_SCRIPT = `
import sys, zipfile
archive, folder, *prefixes = sys.argv[1:]
with zipfile.ZipFile(archive) as wheel:
    for name in wheel.namelist():
        if name.startswith(tuple(prefixes)): wheel.extract(name, folder)
        if name.endswith('.dist-info/METADATA'): print(wheel.read(name).decode())
`;

/** The first command that runs successfully with these arguments. */
export function findTool(
  candidates: readonly (string | undefined)[],
  args: readonly string[],
  missing: string,
): string {
  const runs = (command: string) => spawnSync(command, args, { stdio: 'ignore' }).status === 0;
  const found = candidates.find(command => command && runs(command));
  if (!found) throw new Error(missing);
  return found;
}

export const findPython = (): string =>
  findTool(
    [process.env.PYTHON, 'python3', 'python'],
    ['-m', 'pip', '--version'],
    'python3 with pip is missing; install it (Debian, Ubuntu: apt install python3-pip; Fedora: dnf install python3-pip) or name one in PYTHON',
  );

/** Throws if there are no wheels for this machine. */
export function platformsOfWheels(): readonly string[] {
  const platforms = PLATFORMS[`${process.platform} ${process.arch}`];
  if (platforms) return platforms;
  const known = Object.keys(PLATFORMS).join(', ');
  throw new Error(`there is no set-up for ${process.platform} ${process.arch}, only for ${known}`);
}

export interface Unpacking {
  readonly python: string;
  readonly folder: string;
  /** Path prefixes of the files to unpack. */
  readonly prefixes: readonly string[];
}

/** Downloads a wheel and unpacks the required files. -> the metadata of the wheel */
export function unpackWheel(requirement: string, { python, folder, prefixes }: Unpacking): string {
  const downloads = join(folder, 'download');
  rmSync(downloads, { recursive: true, force: true });
  const args = [
    ...['--no-deps', '--only-binary=:all:', '--implementation', 'cp', '--python-version', PYTHON_OF_WHEEL],
    ...platformsOfWheels().flatMap(platform => ['--platform', platform]),
    ...['-d', downloads, requirement],
  ];
  const pip = ['-m', 'pip', 'download', '--disable-pip-version-check', ...args];
  if (spawnSync(python, pip, { stdio: ['ignore', 2, 2] }).status !== 0)
    throw new Error(`pip could not fetch ${requirement}; it says why above`);
  const [archive] = readdirSync(downloads);
  say(`unpacking ${archive}`);
  const unpack = ['-c', UNPACK_SCRIPT, join(downloads, archive!), folder, ...prefixes];
  const metadata = execFileSync(python, unpack, { encoding: 'utf8', maxBuffer: 2 ** 24 });
  rmSync(downloads, { recursive: true });
  return metadata;
}

/**
 * The NVIDIA packages that a wheel requires, unconditionally or for one of these extras.
 * `Requires-Dist: nvidia-cublas-cu12<13.0,>=12.5; extra == "and-cuda"` -> `nvidia-cublas-cu12<13.0,>=12.5`
 */
export const nvidiaRequirements = (metadata: string, extras: readonly string[] = []): string[] =>
  [...metadata.matchAll(/^Requires-Dist: (nvidia-[^;\n]+)(?:;.*extra == ["']([\w-]+)["'].*)?$/gm)].flatMap(
    ([, name, extra]) => (extra === undefined || extras.includes(extra) ? [name!.trim()] : []),
  );

const nameOf = (requirement: string): string => /^[\w-]+/.exec(requirement)![0];

/** These packages and their transitive requirements, each once. */
export function unpackWithRequirements(requirements: readonly string[], unpacking: Unpacking): void {
  const seen = new Set<string>();
  const waiting = [...requirements];
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
    if (seen.has(nameOf(next))) continue;
    seen.add(nameOf(next));
    waiting.push(...nvidiaRequirements(unpackWheel(next, unpacking)));
  }
}
