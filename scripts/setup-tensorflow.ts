// Sets up the `tensorflow` engine in .tensorflow/: `npm run setup:tensorflow [-- --device auto|cpu|cuda] [--source auto|stock|wheel]`.
// Uses the first source of the native library that works; each source is in its own file. Writes nothing outside .tensorflow/.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { TENSORFLOW_HOME, TENSORFLOW_SETUP, type TensorflowSetup } from '../src/engine/tensorflow-backend.ts';
import { holdLock } from './setup/lock.ts';
import { say } from './setup/say.ts';
import type { Target } from './tensorflow/source.ts';
import { setUpStock } from './tensorflow/stock.ts';
import { setUpWheel } from './tensorflow/wheel.ts';

/** In the order in which they are tried. */
const SOURCES = { stock: setUpStock, wheel: setUpWheel } as const;
type Source = keyof typeof SOURCES;

const NPM_PACKAGES = { 'google-protobuf': '3.21.4', 'node-api-headers': '1.9.0' } as const;

interface Rate {
  readonly device: string;
  readonly tensorflow: string;
  readonly gflops: number;
  readonly size: number;
}

/** Multiplies matrices on the engine, in a child process, which incompatible libraries may crash. */
function measure(device: Target['device']): Rate {
  const script = join(import.meta.dirname, 'tensorflow', 'rate.ts');
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [script, device], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`it does not run (${signal ?? `exit code ${status}`})\n${stderr.trim()}`);
  return JSON.parse(stdout);
}

const hasGpu = (): boolean =>
  spawnSync('nvidia-smi', ['-L'], { encoding: 'utf8' }).stdout?.includes('GPU ') === true;

function oneOf<Choice extends string>(option: string, given: string, choices: readonly Choice[]): Choice {
  const chosen = choices.find(choice => choice === given);
  if (chosen) return chosen;
  say(`--${option} is one of ${choices.join(', ')}, not '${given}'`);
  process.exit(2);
}

function readSetup(): TensorflowSetup | null {
  return existsSync(TENSORFLOW_SETUP) ? JSON.parse(readFileSync(TENSORFLOW_SETUP, 'utf8')) : null;
}

const packageNameFor = (device: Target['device']): TensorflowSetup['packageName'] =>
  device === 'cuda' ? '@tensorflow/tfjs-node-gpu' : '@tensorflow/tfjs-node';

/** Downloads and unpacks npm packages without their dependencies and install scripts. */
function fetchPackages(packages: Readonly<Record<string, string>>): void {
  const missing = Object.entries(packages).filter(([name, version]) => installedVersion(name) !== version);
  for (const [name, version] of missing) {
    const folder = join(TENSORFLOW_HOME, 'node_modules', name);
    say(`fetching ${name} ${version} from npm`);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    const npm = process.env.npm_execpath ? [process.execPath, process.env.npm_execpath] : ['npm'];
    const command = [...npm, 'pack', '--loglevel=error', '--pack-destination', folder, `${name}@${version}`];
    const archive = execFileSync(command[0]!, command.slice(1), { encoding: 'utf8' }).trim();
    execFileSync('tar', ['-xzf', archive, '--strip-components=1'], { cwd: folder });
    rmSync(join(folder, archive));
  }
}

function installedVersion(name: string): string | null {
  const manifest = join(TENSORFLOW_HOME, 'node_modules', name, 'package.json');
  return existsSync(manifest) ? JSON.parse(readFileSync(manifest, 'utf8')).version : null;
}

/** Whether the requested setup exists and works. */
function isSetUp(device: Target['device'], sources: readonly Source[]): boolean {
  const setup = readSetup();
  if (!setup || setup.packageName !== packageNameFor(device) || !sources.includes(setup.source)) return false;
  try {
    report(setup, measure(device));
    return true;
  } catch (error) {
    say(`what is set up does not work: ${(error as Error).message}`);
    return false;
  }
}

async function setUp(device: Target['device'], source: Source): Promise<void> {
  const packageName = packageNameFor(device);
  const packageVersion: string = createRequire(import.meta.url)('@tensorflow/tfjs/package.json').version;
  const packageFolder = join(TENSORFLOW_HOME, 'node_modules', packageName);
  fetchPackages({ [packageName]: packageVersion, ...NPM_PACKAGES });
  const tensorflow = await SOURCES[source]({ device, home: TENSORFLOW_HOME, packageFolder, packageVersion });
  const setup: TensorflowSetup = { packageName, tensorflow, source };
  writeFileSync(TENSORFLOW_SETUP, JSON.stringify(setup));
  try {
    report(setup, measure(device));
  } catch (error) {
    rmSync(TENSORFLOW_SETUP);
    throw error;
  }
}

function report({ packageName, source }: TensorflowSetup, { device, tensorflow, gflops, size }: Rate): void {
  say(
    `the tensorflow engine is set up: ${packageName} on TensorFlow ${tensorflow} (${source}), device ${device}`,
  );
  say(`${gflops} GFLOP/s in products of ${size} x ${size} matrices`);
  say('use it with ANNEAL_ENGINE=tensorflow');
}

const { values } = parseArgs({
  options: { device: { type: 'string', default: 'auto' }, source: { type: 'string', default: 'auto' } },
});
const wantedDevice = oneOf('device', values.device, ['auto', 'cpu', 'cuda']);
const wantedSource = oneOf('source', values.source, ['auto', 'stock', 'wheel']);
const device = wantedDevice === 'auto' ? (hasGpu() ? 'cuda' : 'cpu') : wantedDevice;
const sources = (Object.keys(SOURCES) as Source[]).filter(source => ['auto', source].includes(wantedSource));

mkdirSync(TENSORFLOW_HOME, { recursive: true });
await holdLock(join(TENSORFLOW_HOME, 'lock'));
let done = isSetUp(device, sources);
if (!done) {
  rmSync(TENSORFLOW_SETUP, { force: true });
  // Possibly incomplete, and quick to download; the large library has its own stamp file for that.
  rmSync(join(TENSORFLOW_HOME, 'node_modules'), { recursive: true, force: true });
}
for (const source of sources) {
  if (done) break;
  try {
    await setUp(device, source);
    done = true;
  } catch (error) {
    say(`${source}: ${(error as Error).message}`);
  }
}
if (!done) {
  say(`the tensorflow engine is not set up for ${device}; ANNEAL_ENGINE=onnx needs no set-up`);
  process.exit(1);
}
