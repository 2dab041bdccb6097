// Where processes find CUDA's libraries. The set-up itself fetches gigabytes and is not run here.
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { openEngine } from '../../src/engine/engine.ts';
import { cudaEnvironment, cudaIsSetUp } from '../../src/engine/onnx/cuda.ts';

const home = mkdtempSync(join(tmpdir(), 'anneal-cuda-'));
afterAll(() => rmSync(home, { recursive: true }));

test('without a set-up the environment is as it was', () => {
  const environment = { PATH: '/bin' };
  expect(cudaEnvironment(environment, join(home, 'nowhere'))).toBe(environment);
});

test("the set-up's folders come before those that the machine has", () => {
  for (const name of ['cu13', 'cudnn']) mkdirSync(join(home, 'nvidia', name, 'lib'), { recursive: true });
  const folders = ['cu13', 'cudnn'].map(name => join(home, 'nvidia', name, 'lib')).join(':');
  expect(cudaEnvironment({ A: 'b' }, home)).toEqual({ A: 'b', LD_LIBRARY_PATH: folders });
  expect(cudaEnvironment({ LD_LIBRARY_PATH: '/opt/lib' }, home).LD_LIBRARY_PATH).toBe(`${folders}:/opt/lib`);
});

test.skipIf(cudaIsSetUp())(
  'a device that is not there is refused with what it needs, and not chosen',
  async () => {
    const open = (device: 'auto' | 'cuda') => openEngine({ engine: 'onnx', device, threads: 1 });
    await expect(open('cuda')).rejects.toThrow(
      /device cuda cannot be used: it needs an NVIDIA driver.*setup:cuda/,
    );
    expect((await open('auto')).device).toBe('cpu');
  },
);

test('products in bfloat16 are refused where there are none', async () => {
  const open = (engine: 'onnx' | 'cpu', device: 'cpu' | 'webgpu') =>
    openEngine({ engine, device, threads: 1, precision: 'bfloat16' });
  await expect(open('onnx', 'cpu')).rejects.toThrow('the device cpu has no products in bfloat16');
  await expect(open('onnx', 'webgpu')).rejects.toThrow('the device webgpu has no products in bfloat16');
  await expect(open('cpu', 'cpu')).rejects.toThrow('the engine cpu has no products in bfloat16');
});
