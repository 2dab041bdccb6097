// A test server that really generates: tiny golden models and adapters in its store, and a generation process.
import { createReadStream } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll } from 'vitest';
import type { Deps } from '../../src/deps.ts';
import { writeAdapter } from '../../src/formats/peft.ts';
import { initialLora } from '../../src/models/lora.ts';
import { type Model, openModel } from '../../src/models/registry.ts';
import { type GenerationClient, openGenerationClient } from '../../src/serving/client.ts';
import { openModelCache } from '../../src/serving/model-cache.ts';
import { insertModel, type StoredFile, upsertBaseModel } from '../../src/store/models.ts';
import { type TestServer, useServer } from '../support/server.ts';

export const BASE = 'llama-tiny';
export const PLAIN = 'gpt2-tiny';
export const ANSWERER = 't5-tiny';
export const TRANSLATOR = 'marian-tiny';
export const ADAPTER = 'ft:llama-tiny:personal:one:AAAAAAAA';
export const OTHER_ADAPTER = 'ft:llama-tiny:personal:two:BBBBBBBB';
export const FULL = 'ft:gpt2-tiny:personal:whole:CCCCCCCC';

export const golden = (name: string): string => join(import.meta.dirname, '../golden', name);

/** LoRA of rank 4 on every linear layer, with values that show. */
export async function writeRandomAdapter(model: Model, directory: string, seed: number): Promise<void> {
  let state = seed;
  const uniform = (): number => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
  const layers = model.linearLayers.map(layer => {
    const b = Float32Array.from({ length: layer.outFeatures * 4 }, () => uniform() - 0.5);
    return [layer.name, { a: initialLora(layer, 4, uniform).a, b }] as const;
  });
  await writeAdapter(directory, {
    rank: 4,
    alpha: 16,
    dropout: 0,
    baseModel: BASE,
    linearLayers: model.linearLayers,
    layers: Object.fromEntries(layers),
  });
}

/** The files of a folder as objects of a model. */
export async function storeFolder(
  deps: Pick<Deps, 'blobs'>,
  id: string,
  directory: string,
): Promise<StoredFile[]> {
  const entries = await readdir(directory, { withFileTypes: true, recursive: true });
  const paths = entries
    .filter(entry => entry.isFile())
    .map(entry => relative(directory, join(entry.parentPath, entry.name)));
  return Promise.all(
    paths.map(async path => {
      const key = `models/${id.replaceAll(':', '_')}/${path}`;
      const { sizeBytes, sha256 } = await deps.blobs.put(key, createReadStream(join(directory, path)));
      return { path, key, bytes: sizeBytes, sha256 };
    }),
  );
}

export interface ServingOptions {
  /** Environment variables. */
  environment?: Record<string, string>;
  maxPending?: number;
}

export function useServing({ maxPending, environment }: ServingOptions = {}): TestServer {
  let generation: GenerationClient;
  const server = useServer({
    environment,
    deps(real) {
      generation = openGenerationClient({
        service: {
          engine: 'onnx',
          device: 'cpu',
          threads: 1,
          modelBytes: 1e9,
          adapterBytes: 1e9,
          cacheBytes: 1e8,
          cacheDirectory: join(real.config.dataDirectory, 'cache'),
        },
        cache: openModelCache(real.blobs, join(real.config.dataDirectory, 'model-cache')),
        log: real.log,
        maxPending,
      });
      return { generation };
    },
  });
  beforeAll(async () => {
    const { deps } = server;
    for (const id of [BASE, PLAIN, ANSWERER, TRANSLATOR])
      await upsertBaseModel(deps.pool, {
        id,
        architecture: id.split('-')[0]!,
        ownedBy: 'test',
        files: await storeFolder(deps, id, golden(id)),
      });
    const folder = await mkdtemp(join(tmpdir(), 'anneal-serving-'));
    const model = await openModel(golden(BASE));
    const row = {
      projectId: server.projectId,
      architecture: 'llama',
      jobId: null,
      step: null,
      ownedBy: 'personal',
    };
    for (const [seed, id] of [ADAPTER, OTHER_ADAPTER].entries()) {
      await writeRandomAdapter(model, join(folder, String(seed)), seed + 11);
      const files = await storeFolder(deps, id, join(folder, String(seed)));
      await insertModel(deps.pool, { ...row, id, kind: 'adapter', baseModel: BASE, files });
    }
    const files = await storeFolder(deps, FULL, golden(PLAIN));
    await insertModel(deps.pool, { ...row, id: FULL, kind: 'full', baseModel: PLAIN, files });
    await rm(folder, { recursive: true, force: true });
  });
  afterAll(() => generation?.close());
  return server;
}

/** The error that a request of the official client ends with. */
export async function failureOf(request: Promise<unknown>): Promise<InstanceType<typeof OpenAI.APIError>> {
  try {
    await request;
  } catch (error) {
    if (error instanceof OpenAI.APIError) return error;
    throw error;
  }
  throw new Error('the request was answered');
}
