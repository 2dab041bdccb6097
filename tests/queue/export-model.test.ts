// Exports from the first request to the file: made by a worker, asked for again, refused, taken over from a killed one.
import { Readable } from 'node:stream';
import tar from 'tar-stream';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { startWorker, type Worker } from '../../src/queue/worker.ts';
import { upsertBaseModel } from '../../src/store/models.ts';
import { ADAPTER, BASE, FULL, golden, storeFolder, TRANSLATOR, useServing } from '../serving/serving.ts';
import { startWorkerProcess, type WorkerProcess } from './processes.ts';
import { waitFor } from './setting.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const server = useServing({ environment: { ANNEAL_LEASE_SECONDS: '3', ANNEAL_THREADS: '1' } });
let worker: Worker | null = null;
let killed: WorkerProcess | null = null;
const start = async () => {
  worker = await startWorker(server.deps);
};
afterEach(async () => {
  await worker?.close();
  await killed?.end('SIGKILL');
  worker = null;
  killed = null;
});

interface Export {
  id: string;
  status: string;
  file: string | null;
  compared: string | null;
  largest_difference: number | null;
  error: { code: string; message: string } | null;
}

const ask = (model: string, format: string, more = ''): Promise<Export> =>
  server.client.get(`/models/${model}/export?format=${format}${more}`);

const untilEnded = (model: string, format: string) =>
  waitFor(`the ${format} of ${model}`, async () => {
    const found = await ask(model, format);
    return ['succeeded', 'failed'].includes(found.status) ? found : null;
  });

async function namesIn(fileId: string): Promise<string[]> {
  const bytes = Buffer.from(await (await server.client.files.content(fileId)).arrayBuffer());
  const names: string[] = [];
  const extract = tar.extract();
  extract.on('entry', ({ name }, stream, next) => {
    names.push(name.split('/').at(-1)!);
    stream.on('end', next).resume();
  });
  await new Promise((done, fail) =>
    Readable.from([bytes])
      .pipe(extract)
      .on('finish', () => done(undefined))
      .on('error', fail),
  );
  return names;
}

describe('an export', () => {
  test.each([
    ['adapter', ['adapter_config.json', 'adapter_model.safetensors']],
    ['merged', ['config.json', 'model.safetensors', 'tokenizer.json']],
  ])('%s is made once, and is a file', async (format, names) => {
    const first = await ask(ADAPTER, format);
    expect(first).toMatchObject({ object: 'model.export', model: ADAPTER, status: 'queued', file: null });
    expect((await ask(ADAPTER, format)).id).toBe(first.id);
    await start();
    const made = await untilEnded(ADAPTER, format);
    expect(made).toMatchObject({ id: first.id, status: 'succeeded', error: null });
    expect(made.compared).toBe('logprobs');
    expect(made.largest_difference).toBeLessThan(1e-3);
    const file = await server.client.files.retrieve(made.file!);
    expect(file).toMatchObject({ purpose: 'fine-tune-results', filename: expect.stringMatching(/\.tar$/) });
    expect(await namesIn(made.file!)).toEqual(expect.arrayContaining(names));
  });

  test('gguf begins with its magic, and is made again when its file was deleted', async () => {
    await start();
    await ask(ADAPTER, 'gguf');
    const { file, id } = await untilEnded(ADAPTER, 'gguf');
    const content = Buffer.from(await (await server.client.files.content(file!)).arrayBuffer());
    expect(content.subarray(0, 4).toString()).toBe('GGUF');
    await server.client.files.delete(file!);
    const again = await ask(ADAPTER, 'gguf');
    expect(again).toMatchObject({ id, status: 'queued', file: null });
    expect((await untilEnded(ADAPTER, 'gguf')).file).not.toBe(file);
  });

  test('of an encoder has its vectors compared', async () => {
    const { deps } = server;
    const files = await storeFolder(deps, 'bert-tiny', golden('bert-tiny'));
    await upsertBaseModel(deps.pool, { id: 'bert-tiny', architecture: 'bert', ownedBy: 'test', files });
    await start();
    await ask('bert-tiny', 'merged');
    const made = await untilEnded('bert-tiny', 'merged');
    expect(made).toMatchObject({ status: 'succeeded', compared: 'vectors', largest_difference: 0 });
    expect(await namesIn(made.file!)).toContain('modules.json');
  });

  test.each([
    [BASE, 'adapter', /it has no adapter: its weights are its own\. Its formats are: merged, gguf\.$/],
    [FULL, 'adapter', /it has no adapter/],
    [TRANSLATOR, 'gguf', /cannot be exported as gguf: gguf is written for .* Its formats are: merged\.$/],
  ])('of %s as %s is refused at once, with the formats that it has', async (model, format, message) => {
    await expect(ask(model, format)).rejects.toMatchObject({
      status: 400,
      code: 'unsupported_value',
      param: 'format',
      message: expect.stringMatching(message),
    });
  });

  test('that has ended is made again when asked to', async () => {
    await start();
    const { id } = await ask(FULL, 'merged');
    await untilEnded(FULL, 'merged');
    expect(await ask(FULL, 'merged')).toMatchObject({ id, status: 'succeeded' });
    expect(await ask(FULL, 'merged', '&again=true')).toMatchObject({ id, status: 'queued', compared: null });
    await untilEnded(FULL, 'merged');
  });

  test('goes on when its worker was killed', async () => {
    await ask(BASE, 'merged');
    const { config } = server.deps;
    killed = await startWorkerProcess({
      DATABASE_URL: server.database.url,
      ANNEAL_DATA_DIR: config.dataDirectory,
      ANNEAL_THREADS: '1',
      ANNEAL_LEASE_SECONDS: '3',
    });
    await waitFor('the export to begin', async () => (await ask(BASE, 'merged')).status !== 'queued' || null);
    await killed.end('SIGKILL');
    await start();
    expect(await untilEnded(BASE, 'merged')).toMatchObject({ status: 'succeeded' });
  });

  test('of a model of another project is unknown', async () => {
    await expect(server.otherClient.get(`/models/${ADAPTER}/export?format=merged`)).rejects.toMatchObject({
      status: 404,
      code: 'model_not_found',
    });
    await expect(ask(ADAPTER, 'onnx')).rejects.toMatchObject({ status: 400, param: 'format' });
  });
});
