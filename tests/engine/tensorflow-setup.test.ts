// How the set-up of the `tensorflow` engine fetches: the stock binary from a mirror, and which libraries a wheel asks for. The whole
// set-up is not run here: it fetches hundreds of megabytes and compiles.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { nvidiaRequirements } from '../../scripts/setup/wheels.ts';
import { setUpStock } from '../../scripts/tensorflow/stock.ts';

test("a wheel's CUDA libraries are those that it always needs, and those of the extra", () => {
  const metadata = `Name: tensorflow
Requires-Dist: nvidia-cublas
Requires-Dist: absl-py>=1.0.0
Requires-Dist: nvidia-cublas-cu12<13.0,>=12.5.3.2; extra == "and-cuda"
Requires-Dist: nvidia-nccl-cu12<3.0,>=2.27.7; extra == 'and-cuda'
Requires-Dist: nvidia-other; extra == "something-else"
`;
  expect(nvidiaRequirements(metadata, ['and-cuda'])).toEqual([
    'nvidia-cublas',
    'nvidia-cublas-cu12<13.0,>=12.5.3.2',
    'nvidia-nccl-cu12<3.0,>=2.27.7',
  ]);
});

/** An archive that holds one file. */
function archiveOf(folder: string, path: string, content: string): Buffer {
  const root = mkdtempSync(join(folder, 'archive-'));
  mkdirSync(join(root, path, '..'), { recursive: true });
  writeFileSync(join(root, path), content);
  return execFileSync('tar', ['-czf', '-', path.split('/')[0]!], { cwd: root });
}

describe.runIf(process.platform === 'linux' && process.arch === 'x64')('the stock binary', () => {
  let folder: string;
  let server: Server;
  let answers: Record<string, Buffer>;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'anneal-stock-'));
    mkdirSync(join(folder, 'package/scripts'), { recursive: true });
    writeFileSync(
      join(folder, 'package/scripts/deps-constants.js'),
      "const LIBTENSORFLOW_VERSION = '2.9.1';\n",
    );
    answers = {
      '/tf-builds/pre-built-binary/napi-v8/4.22.0/GPU-linux-4.22.0.tar.gz': archiveOf(
        folder,
        'napi-v8/tfjs_binding.node',
        'binding',
      ),
      '/tensorflow/libtensorflow/libtensorflow-gpu-linux-x86_64-2.9.1.tar.gz': archiveOf(
        folder,
        'lib/libtensorflow.so.2',
        'library',
      ),
    };
    server = createServer((request, response) => {
      const answer = answers[request.url!];
      response.statusCode = answer ? 200 : 404;
      response.end(answer);
    }).listen(0, '127.0.0.1');
    await new Promise(resolve => server.once('listening', resolve));
    const { port } = server.address() as AddressInfo;
    vi.stubEnv('TFJS_NODE_CDN_STORAGE', `http://127.0.0.1:${port}/`);
  });

  afterEach(async () => {
    vi.unstubAllEnvs();
    await new Promise(resolve => server.close(resolve));
    rmSync(folder, { recursive: true });
  });

  const setUp = (device: 'cpu' | 'cuda') =>
    setUpStock({ device, home: folder, packageFolder: join(folder, 'package'), packageVersion: '4.22.0' });
  const read = (path: string) => readFileSync(join(folder, 'package', path), 'utf8');

  test('lands where the binding looks for its library', async () => {
    expect(await setUp('cuda')).toBe('2.9.1');
    expect(read('lib/napi-v8/tfjs_binding.node')).toBe('binding');
    expect(read('deps/lib/libtensorflow.so.2')).toBe('library');
  });

  test('that is not there is named', async () => {
    await expect(setUp('cpu')).rejects.toThrow(/CPU-linux-4\.22\.0\.tar\.gz answers 404/);
  });

  test('on a host that cannot be reached is named', async () => {
    vi.stubEnv('TFJS_NODE_CDN_STORAGE', 'http://127.0.0.1:9/');
    await expect(setUp('cpu')).rejects.toThrow(/127\.0\.0\.1:9\/tf-builds.* cannot be reached/);
  });
});
