// The bundle for machines with a GPU and no network, up to the device: packed, carried in pieces, unpacked beside the repository's own
// files in another folder, and run there with nothing else, on the processor.
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { packageFolders } from '../../benchmarks/gpu/packages.ts';
import { writePieces } from '../../benchmarks/gpu/pieces.ts';

const root = join(import.meta.dirname, '../..');
const scratch = mkdtempSync(join(tmpdir(), 'anneal-gpu-'));
const there = join(scratch, 'there');
const carried = join(there, '.gpu/pieces');
afterAll(() => rmSync(scratch, { recursive: true }));

/** Of what git would bring. */
const CHECKED_OUT = ['package.json', 'benchmarks', 'scripts', 'src'];
const TESTS = ['engine', 'golden', 'models', 'serving', 'training'].map(folder => `tests/${folder}`);
beforeAll(() => {
  for (const path of [...CHECKED_OUT, ...TESTS])
    cpSync(join(root, path), join(there, path), { recursive: true });
});

/** As on a machine without packages and with no other Node. */
function runThere(command: string, args: readonly string[], python = 'no-python') {
  const env = { PATH: '/usr/bin:/bin', HOME: scratch, PYTHON: join(scratch, python) };
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: there, env, encoding: 'utf8' });
  return { status, said: stdout + stderr };
}

const unpack = () => runThere('sh', ['benchmarks/gpu/unpack.sh']);

const MIB = 2 ** 20;

test('a bundle runs where nothing else is', { timeout: 240_000 }, () => {
  expect(unpack()).toMatchObject({ status: 1, said: expect.stringContaining('there is no bundle') });

  const pieces = join(scratch, 'pieces');
  const pack = ['benchmarks/gpu/pack.ts', '--without-cuda', '--piece-mib', '40', '--into', pieces];
  const packing = spawnSync(process.execPath, pack, { cwd: root, encoding: 'utf8' });
  expect(packing.status, packing.stderr).toBe(0);
  const [first, ...others] = readdirSync(pieces);
  for (const name of [first!, ...others])
    expect(statSync(join(pieces, name)).size).toBeLessThanOrEqual(40 * MIB);

  cpSync(join(pieces, 'sums'), join(carried, 'sums'));
  cpSync(join(pieces, first!), join(carried, first!));
  const missing = others.filter(name => name !== 'sums').join(' ');
  expect(unpack()).toEqual({ status: 2, said: `not here yet: ${missing}\n` });

  cpSync(pieces, carried, { recursive: true });
  expect(unpack()).toMatchObject({ status: 0, said: expect.stringContaining('unpacked') });
  expect(unpack()).toEqual({ status: 0, said: 'unpacked already\n' });

  const report = join(scratch, 'report.json');
  const options = ['--tests', 'Softmax', '--shape', 'llama-tiny', '--length', '128', '--tokens', '512'];
  const run = ['benchmarks/gpu/run.ts', '--device', 'cpu', '--part', 'check,train', '--report', report];
  const { status, said } = runThere(join(there, '.gpu/bin/node'), [...run, ...options]);
  expect(status, said).toBe(0);
  expect(said).toContain('1 of 1 results on cpu are the processor');
  const { machine, check, train } = JSON.parse(readFileSync(report, 'utf8'));
  expect(machine).toMatchObject({ node: process.version, onnxruntime: expect.stringMatching(/^\d+\.\d+/) });
  expect(check).toMatchObject({ ok: true, results: { passed: 1, failures: [] } });
  expect(train.results).toMatchObject([
    { shape: 'llama-tiny', contenders: [{ name: 'onnx' }, { name: 'int8' }] },
  ]);
  expect(train.results[0].contenders[0].tokensPerSecond).toBeGreaterThan(0);

  // A provider that came in a bundle finds CUDA's libraries in Python's packages, as far as they are any.
  const providers = ['shared', 'cuda'].map(part => `libonnxruntime_providers_${part}.so`);
  const capi = join(there, '.cuda/onnxruntime/capi');
  mkdirSync(capi, { recursive: true });
  for (const name of providers) writeFileSync(join(capi, name), 'no library');
  writeFileSync(join(scratch, 'python'), `#!/bin/sh\necho ${scratch}/nvidia\n`, { mode: 0o755 });
  const onCuda = runThere(
    join(there, '.gpu/bin/node'),
    ['benchmarks/gpu/run.ts', '--device', 'cuda'],
    'python',
  );
  expect(onCuda).toMatchObject({ status: 1, said: expect.stringContaining('it needs an NVIDIA driver') });
  expect(readlinkSync(join(there, '.cuda/nvidia'))).toBe(join(scratch, 'nvidia'));
  const beside = join(there, 'node_modules/onnxruntime-node/bin/napi-v6', process.platform, process.arch);
  expect(readdirSync(beside)).toEqual(expect.arrayContaining(providers));
});

test('a piece that was carried wrong is not unpacked', async () => {
  const [from, folder] = [join(scratch, 'a'), join(scratch, 'other/.gpu/pieces')];
  writeFileSync(from, 'content');
  mkdirSync(join(scratch, 'other/benchmarks'), { recursive: true });
  cpSync(join(root, 'benchmarks/gpu'), join(scratch, 'other/benchmarks/gpu'), { recursive: true });
  expect(await writePieces([{ path: from, name: 'unpacked-a' }], folder, 60)).toBeGreaterThan(1);
  writeFileSync(join(folder, 'piece-001'), 'something else');
  const { status, stdout } = spawnSync('sh', ['benchmarks/gpu/unpack.sh'], {
    cwd: join(scratch, 'other'),
    env: { ...process.env, LC_ALL: 'C' },
    encoding: 'utf8',
  });
  expect(status).toBe(1);
  expect(stdout).toContain('piece-001: FAILED');
  expect(readdirSync(join(scratch, 'other'))).toEqual(['.gpu', 'benchmarks']);
});

test('a package is found where Node would find it: inside of the one that asks, else above', () => {
  const lock = {
    'node_modules/a': { dependencies: { b: '1', c: '1' } },
    'node_modules/a/node_modules/b': { optionalDependencies: { missing: '1' } },
    'node_modules/b': {},
    'node_modules/c': { peerDependencies: { b: '2', a: '1' } },
    'node_modules/unasked': {},
  };
  expect([...packageFolders(lock, ['a'])].sort()).toEqual([
    'node_modules/a',
    'node_modules/a/node_modules/b',
    'node_modules/b',
    'node_modules/c',
  ]);
});
