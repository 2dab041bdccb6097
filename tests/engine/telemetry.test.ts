// ONNX Runtime's published builds leave a device id, an offline cache and a log behind them as soon as they report to their maker.
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const engine = JSON.stringify(new URL('../../src/engine/engine.ts', import.meta.url).href);
const PROGRAM = `
  const { openEngine } = await import(${engine});
  const { compile } = await openEngine({ engine: 'onnx', device: 'cpu', threads: 1 });
  const spec = { a: { shape: [2], dtype: 'float32' } };
  const executable = await compile({ name: 'sum', inputs: spec, weights: {}, run: ({ a }) => ({ b: a.add(1) }) });
  console.log([...(await executable.run({ a: Float32Array.of(1, 2) })).b].join());
`;

test('running a program leaves no trace of telemetry', async () => {
  const home = await mkdtemp(join(tmpdir(), 'anneal-home-'));
  // Not the environment of a test: ONNX Runtime keeps quiet where it sees one.
  const env = { PATH: process.env.PATH, HOME: home, TMPDIR: home };
  try {
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', PROGRAM], {
      env,
    });
    expect(stdout.trim()).toBe('2,3');
    expect(await readdir(home)).toEqual([]);
  } finally {
    await rm(home, { recursive: true });
  }
});
