import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ConfigError, readConfig, variables } from '../src/config.ts';

const root = join(import.meta.dirname, '..');

describe('.env.example', () => {
  test('has each variable with its line, in order, and nothing else', async () => {
    const expected = Object.values(variables).map(
      ({ name, default: fallback, description }) => `# ${description}\n#${name}=${fallback}\n`,
    );
    const text = await readFile(join(root, '.env.example'), 'utf8');
    const [head, ...rest] = text.split('\n\n');
    expect(head).toMatch(/^# /);
    expect(rest.join('\n\n')).toBe(expected.join('\n'));
  });

  test('changes nothing when all of it is taken', async () => {
    const text = await readFile(join(root, '.env.example'), 'utf8');
    const lines = [...text.matchAll(/^#([A-Z0-9_]+)=(.*)$/gm)];
    expect(readConfig(Object.fromEntries(lines.map(([, name, value]) => [name!, value!])))).toEqual(
      readConfig({}),
    );
  });
});

test('without anything set: local folders, loopback, onnx', () => {
  expect(readConfig({})).toMatchObject({
    databaseUrl: null,
    s3Bucket: null,
    host: '127.0.0.1',
    port: 8787,
    apiKey: null,
    dataDirectory: resolve('.anneal'),
    modelsDirectory: resolve('models'),
    engine: 'onnx',
    device: 'auto',
    precision: 'float32',
    fileLimitBytes: 512 * 2 ** 20,
  });
});

test('cannot be changed', () => {
  const config = readConfig({}) as { port: number };
  expect(() => {
    config.port = 1;
  }).toThrow(TypeError);
});

const wrong: [Record<string, string>, RegExp][] = [
  [{ PORT: '99999' }, /^PORT="99999": must be a whole number from 0 to 65535$/],
  [{ PORT: '80a' }, /^PORT="80a"/],
  [{ ANNEAL_ENGINE: 'torch' }, /^ANNEAL_ENGINE="torch": must be one of onnx, tensorflow$/],
  [{ ANNEAL_DEVICE: 'gpu' }, /must be one of auto, cpu, cuda, webgpu/],
  [{ ANNEAL_THREADS: '0' }, /^ANNEAL_THREADS="0"/],
  [{ ANNEAL_MEMORY_GB: '-1' }, /^ANNEAL_MEMORY_GB="-1"/],
  [{ S3_ENDPOINT: 'localhost:9000', S3_BUCKET: 'b' }, /^S3_ENDPOINT="localhost:9000": must look like https/],
  [{ S3_ENDPOINT: 'http://localhost:9000' }, /S3_ENDPOINT is set without S3_BUCKET/],
  [{ AWS_ACCESS_KEY_ID: 'a' }, /go together/],
  [{ ANNEAL_ORGANIZATION: 'a:b' }, /^ANNEAL_ORGANIZATION="a:b"/],
  [{ ANNEAL_API_KEY: 'short' }, /^ANNEAL_API_KEY="...": must be 8 to 200/],
  [{ ANNEAL_ADMIN_KEY: 'short' }, /^ANNEAL_ADMIN_KEY="...": must be 8 to 200/],
  [{ ANNEAL_METRICS_TOKEN: 'a b c d e' }, /^ANNEAL_METRICS_TOKEN="..."/],
  [{ ANNEAL_WORKER_METRICS_PORT: '0' }, /^ANNEAL_WORKER_METRICS_PORT="0"/],
  [{ ANNEAL_CURRENCY: '$' }, /must be three letters, such as usd/],
  [{ ANNEAL_PRICES: '{"a": 1' }, /^ANNEAL_PRICES="\{"a": 1": must be a JSON object/],
  [{ ANNEAL_PRICES: '[]' }, /must be a JSON object/],
  [{ ANNEAL_PRICES: '{"a": {"inputs": 1}}' }, /'a' may have input, cached_input, output, training/],
  [{ ANNEAL_PRICES: '{"a": {"input": "cheap"}}' }, /each a number of at least 0/],
  [{ ANNEAL_PRICES: '{"a": 3}' }, /'a' may have input/],
  [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'localhost:4318' }, /must look like https/],
  [{ DATABASE_URL: 'mysql://u:secret@h/d' }, /^DATABASE_URL="...": must look like postgresql:/],
];
test.each(wrong)('%j stops with a line that says why', (environment, message) => {
  expect(() => readConfig(environment)).toThrow(ConfigError);
  expect(() => readConfig(environment)).toThrow(message);
});

test('all that is wrong is said at once, and no secret is repeated', () => {
  const read = () => readConfig({ PORT: 'x', ANNEAL_ENGINE: 'y', DATABASE_URL: 'mysql://u:secret@h/d' });
  expect(read).toThrow(/DATABASE_URL[^\n]*\nPORT[^\n]*\nANNEAL_ENGINE/);
  expect(read).not.toThrow(/secret/);
});

test('networks are addresses with a prefix, or alone', () => {
  const read = (text: string) => readConfig({ ANNEAL_WEBHOOK_NETWORKS: text }).webhookNetworks;
  expect(read('')).toEqual([]);
  expect(read('10.0.0.0/8, fd00::/8,127.0.0.1')).toEqual([
    { address: '10.0.0.0', prefix: 8, family: 'ipv4' },
    { address: 'fd00::', prefix: 8, family: 'ipv6' },
    { address: '127.0.0.1', prefix: 32, family: 'ipv4' },
  ]);
  for (const wrong of ['10.0.0.0/33', 'intranet', '10.0.0.0/', '::/129', '10.0.0.0/x'])
    expect(() => read(wrong)).toThrow('must look like 10.0.0.0/8');
});
