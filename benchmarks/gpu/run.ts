// What a device computes, and how fast: `node benchmarks/gpu/run.ts [--device cuda|webgpu|cpu] [--part check,rate,train,serve]`. First every op,
// every model and steps of training on it against the numbers that the tests hold the processor to, then the tables of train.ts and serve.ts
// beside PyTorch's. Without --device it takes the first that computes here. Parts may be run one by one: the report, a JSON file, keeps the others.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { cudaEnvironment } from '../../src/engine/onnx/cuda.ts';
import type { Provider } from '../../src/engine/onnx/lowering.ts';
import { parseDevice } from '../contender.ts';
import { completeCuda, describeMachine } from './machine.ts';

const root = join(import.meta.dirname, '../..');
const { values } = parseArgs({
  options: {
    device: { type: 'string' },
    part: { type: 'string', default: 'check,rate,train,serve' },
    /** Of the check: tests whose names this fits. */
    tests: { type: 'string', default: '' },
    shape: { type: 'string', default: 'gpt2-124m,llama-160m,llama-1b' },
    length: { type: 'string', default: '512,2048' },
    /** Of a micro-batch: a card is idle most of the time with as few as a processor takes. */
    tokens: { type: 'string', default: '8192' },
    'serve-shape': { type: 'string', default: 'llama-1b' },
    rounds: { type: 'string', default: '1' },
    report: { type: 'string' },
  },
});

const scratch = mkdtempSync(join(tmpdir(), 'anneal-gpu-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));

/** Its output is this process's own. */
function runNode(args: readonly string[], environment: Readonly<Record<string, string>> = {}): boolean {
  const env = { ...cudaEnvironment(), ...environment };
  return spawnSync(process.execPath, args, { cwd: root, env, stdio: 'inherit' }).status === 0;
}

/** null where a run ended before it wrote any. */
const readJson = <Content>(file: string): Content | null =>
  existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : null;

// ---- the device

const script = (name: string, device: Provider) =>
  spawnSync(process.execPath, [name, device], { cwd: root, env: cudaEnvironment(), encoding: 'utf8' });

/** What it needs; null where it computes. */
function missingFor(device: Provider): string | null {
  const { status, signal, stderr } = script('benchmarks/gpu/probe.ts', device);
  if (status === 0) return null;
  const said = /the device \w+ cannot be used: [a-z].*/.exec(stderr)?.[0];
  return said ?? `${device}: it ends with ${signal ?? `exit code ${status}`}`;
}

function chooseDevice(asked: string | undefined): Provider | null {
  for (const device of asked ? [parseDevice(asked)] : (['cuda', 'webgpu'] as const)) {
    const missing = missingFor(device);
    if (missing === null) return device;
    console.log(missing);
  }
  return null;
}

// ---- the parts

interface Test {
  readonly fullName: string;
  readonly status: string;
  readonly failureMessages: readonly string[];
}

interface TestFile {
  readonly name: string;
  readonly status: string;
  readonly message: string;
  /** None where the file itself does not load. */
  readonly assertionResults: readonly Test[];
}

/** One line of a failure is enough to see how far off a number is. */
const firstLine = ({ fullName, failureMessages }: Test) =>
  `${fullName}: ${failureMessages[0]?.split('\n')[0] ?? ''}`;

/** The tests of ops, gradients, models, generation and training. TF32, which rounds what products read to ten bits, is off for them. */
function check(device: Provider) {
  const output = join(scratch, 'tests.json');
  const pattern = [`onnx on ${device}`, values.tests].filter(Boolean).join('.*');
  runNode(
    [
      ...['node_modules/vitest/vitest.mjs', 'run', '--config', 'benchmarks/gpu/vitest.config.ts'],
      ...['-t', pattern, '--reporter', 'json', '--outputFile', output],
    ],
    { TEST_DEVICES: device === 'cpu' ? '' : device, NVIDIA_TF32_OVERRIDE: '0' },
  );
  const files = readJson<{ testResults: TestFile[] }>(output)?.testResults ?? [];
  const tests = files.flatMap(({ assertionResults }) => assertionResults);
  const unread = files.filter(
    ({ status, assertionResults }) => status === 'failed' && assertionResults.length === 0,
  );
  const failures = [
    ...unread.map(({ name, message }) => `${name}: ${message}`),
    ...tests.filter(({ status }) => status === 'failed').map(firstLine),
  ];
  const passed = tests.filter(({ status }) => status === 'passed').length;
  console.log(`${passed} of ${passed + failures.length} results on ${device} are the processor's`);
  for (const failure of failures) console.log(`  ${failure}`);
  return { ok: failures.length === 0 && passed > 0, results: { passed, failures } };
}

/** A benchmark and what it measured. */
function table(script: string, device: Provider, options: readonly string[]) {
  const output = join(scratch, `${script}.json`);
  const args = [`benchmarks/${script}.ts`, '--device', device, '--rounds', values.rounds, '--json', output];
  const ok = runNode([...args, ...options]);
  return { ok, results: readJson(output) };
}

interface Part {
  readonly ok: boolean;
  readonly results: unknown;
}

/** Of bare products in float32. */
function rate(device: Provider): Part {
  const { status, stdout, stderr } = script('scripts/setup/onnx-rate.ts', device);
  console.log(status === 0 ? stdout.trim() : stderr.trim());
  return { ok: status === 0, results: stdout.trim() };
}

const PARTS: Record<string, (device: Provider) => Part> = {
  check,
  rate,
  train(device) {
    const { shape, length, tokens } = values;
    const rows = ['--shape', shape, '--length', length, '--masked', '0', '--tokens', tokens];
    return table('train', device, [...rows, '--steps', '8']);
  },
  serve: device => table('serve', device, ['--shape', values['serve-shape']]),
};

// ---- the report

const parts = values.part.split(',');
const unknown = parts.find(part => !PARTS[part]);
if (unknown) throw new Error(`--part must be of ${Object.keys(PARTS).join(', ')}, got '${unknown}'`);
completeCuda();
const device = chooseDevice(values.device);
if (device === null) {
  console.log('no device was measured');
  process.exit(1);
}
const file = values.report ?? join(root, '.gpu', `report-${device}.json`);
const machine = describeMachine();
console.log(`${device}: ${machine.nvidia ?? 'no NVIDIA card'}, ${machine.processor}`);
mkdirSync(dirname(file), { recursive: true });
for (const part of parts) {
  const { ok, results } = PARTS[part]!(device);
  if (!ok) process.exitCode = 1;
  const entry = { date: new Date().toISOString(), ok, results };
  const report = { ...readJson<object>(file), device, machine, [part]: entry };
  writeFileSync(file, `${JSON.stringify(report, null, 2)}\n`);
}
console.log(`the report is in ${file}`);
