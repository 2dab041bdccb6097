import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Blobs } from '../../src/blobs/blobs.ts';
import { openFolder } from '../../src/blobs/folder.ts';
import { registerBaseModel, registerModelsIn, type Transfer } from '../../src/cli/add-model.ts';
import { downloadModel } from '../../src/cli/hub.ts';
import { listBaseModels, readModel } from '../../src/store/models.ts';
import { causalClassifier } from '../models/folders.ts';
import { useDatabase } from '../support/postgres.ts';
import { type HubServer, startHub } from './hub-server.ts';

const tiny = join(import.meta.dirname, '../golden/llama-tiny');
const encoder = join(import.meta.dirname, '../golden/bert-tiny');
const database = useDatabase();
let folder: string;
let blobs: Blobs;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'anneal-cli-'));
  blobs = await openFolder(join(folder, 'objects'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const add = (path: string, id?: string, onProgress?: (transfer: Transfer) => void) =>
  registerBaseModel({ pool: database.pool, blobs }, path, id, onProgress);

describe('a folder becomes a base model', () => {
  test('its files are stored, it is named in the database, and progress is told', async () => {
    const transfers: Transfer[] = [];
    const added = await add(tiny, 'tiny-1', transfer => transfers.push(transfer));
    expect(added).toMatchObject({ id: 'tiny-1', architecture: 'llama', changed: true });
    const row = (await readModel(database.pool, 'tiny-1'))!;
    expect(row).toMatchObject({ kind: 'base', projectId: null, architecture: 'llama' });
    const names = row.files.map(({ path }) => path);
    expect(names).toContain('config.json');
    expect(names).toContain('tokenizer.json');
    for (const { path, key, bytes } of row.files) {
      expect(await readFile(blobs.localPath(key)!)).toEqual(await readFile(join(tiny, path)));
      expect(transfers.findLast(transfer => transfer.path === path)).toEqual({
        path,
        doneBytes: bytes,
        totalBytes: bytes,
      });
    }
  });

  test('what it answers with is found in its files; what was registered before that was asked learns it', async () => {
    const answersOf = async (id: string) => (await readModel(database.pool, id))!.answers;
    await add(tiny, 'answers-text');
    await add(encoder, 'answers-vectors');
    await add(await causalClassifier('llama-tiny'), 'answers-classes');
    expect(await answersOf('answers-text')).toBe('text');
    expect(await answersOf('answers-vectors')).toBe('vectors');
    expect(await answersOf('answers-classes')).toBe('classes');
    await database.pool.query("update models set answers = null where id = 'answers-classes'");
    await add(await causalClassifier('llama-tiny'), 'answers-classes');
    expect(await answersOf('answers-classes')).toBe('classes');
  });

  test('a second time nothing is stored', async () => {
    await add(tiny, 'tiny-2');
    const transfers: Transfer[] = [];
    expect(await add(tiny, 'tiny-2', transfer => transfers.push(transfer))).toMatchObject({ changed: false });
    expect(transfers).toEqual([]);
  });

  test('a changed folder gets new objects; the old ones stay as they are', async () => {
    const copy = join(folder, 'changing');
    await cp(tiny, copy, { recursive: true });
    await add(copy);
    const before = (await readModel(database.pool, 'changing'))!.files;
    const generation = join(copy, 'generation_config.json');
    await writeFile(
      generation,
      JSON.stringify({ ...JSON.parse(await readFile(generation, 'utf8').catch(() => '{}')), top_p: 0.5 }),
    );
    expect(await add(copy)).toMatchObject({ changed: true });
    const after = (await readModel(database.pool, 'changing'))!.files;
    const keys = new Set(before.map(({ key }) => key));
    expect(after.filter(({ key }) => keys.has(key))).toEqual([]);
    for (const { key, bytes } of before) expect(await blobs.size(key)).toBe(bytes);
  });

  test.each([
    ['a folder that is no model', () => folder, undefined, /no config\.json/],
    ['a name that cannot stand in a url', () => tiny, 'a/b', /"a\/b" cannot be a model's id/],
  ])('refuses %s', async (_, path, id, message) => {
    await expect(add(path(), id)).rejects.toThrow(message);
  });

  test('a model whose weights do not fit its config is refused and not registered', async () => {
    const copy = join(folder, 'misfit');
    await cp(tiny, copy, { recursive: true });
    const config = JSON.parse(await readFile(join(copy, 'config.json'), 'utf8'));
    await writeFile(join(copy, 'config.json'), JSON.stringify({ ...config, intermediate_size: 7 }));
    await expect(add(copy)).rejects.toThrow(/mlp/);
    expect(await readModel(database.pool, 'misfit')).toBeNull();
  });

  test('every model of a folder of models, under its own name', async () => {
    const models = join(folder, 'models');
    await cp(tiny, join(models, 'from-folder'), { recursive: true });
    await mkdir(join(models, 'not-a-model'));
    await mkdir(join(models, 'cut-off'));
    await writeFile(join(models, 'cut-off', 'config.json'), '{"architectures": [');
    await mkdir(join(models, 'unknown'));
    await writeFile(join(models, 'unknown', 'config.json'), '{"architectures": ["Abacus"]}');
    const { added, refused } = await registerModelsIn({ pool: database.pool, blobs }, models);
    expect(added.map(({ id }) => id)).toEqual(['from-folder']);
    expect(refused).toMatchObject([
      { folder: join(models, 'cut-off'), reason: expect.stringMatching(/config.json/) },
      { folder: join(models, 'unknown'), reason: expect.stringMatching(/Abacus/) },
    ]);
    expect((await listBaseModels(database.pool)).map(({ id }) => id)).toContain('from-folder');
    await expect(registerModelsIn({ pool: database.pool, blobs }, join(folder, 'nowhere'))).rejects.toThrow(
      /ANNEAL_MODELS_DIR.*nowhere/,
    );
  });
});

describe('a model from a hub', () => {
  let hub: HubServer | null = null;
  afterEach(async () => {
    await hub?.close();
    hub = null;
  });
  const download = (into: string, more: object = {}) =>
    downloadModel({
      repo: 'team/tiny',
      revision: 'main',
      hubUrl: hub!.url,
      token: null,
      into: join(folder, into),
      ...more,
    });

  test('its files arrive whole, with progress, and register', async () => {
    hub = await startHub({ repo: 'team/tiny', revision: 'main', folder: tiny });
    const transfers: Transfer[] = [];
    await download('hub-1', { onProgress: (transfer: Transfer) => transfers.push(transfer) });
    for (const path of await readdir(join(folder, 'hub-1')))
      expect(await readFile(join(folder, 'hub-1', path))).toEqual(await readFile(join(tiny, path)));
    expect(transfers.at(-1)!.doneBytes).toBe(transfers.at(-1)!.totalBytes);
    expect(await add(join(folder, 'hub-1'))).toMatchObject({ id: 'hub-1', changed: true });
  });

  test('an encoder brings what says how its vectors are made, from its subfolder too', async () => {
    hub = await startHub({ repo: 'team/tiny', revision: 'main', folder: encoder });
    await download('hub-encoder');
    await add(join(folder, 'hub-encoder'));
    const { files } = (await readModel(database.pool, 'hub-encoder'))!;
    expect(files.map(({ path }) => path)).toEqual(
      expect.arrayContaining(['1_Pooling/config.json', 'modules.json', 'sentence_bert_config.json']),
    );
  });

  test('what has arrived is not downloaded again', async () => {
    hub = await startHub({ repo: 'team/tiny', revision: 'main', folder: tiny });
    await download('hub-2');
    const { length } = hub.requests;
    await rm(join(folder, 'hub-2', 'config.json'));
    await download('hub-2');
    const again = hub.requests.slice(length).filter(request => request.includes('/resolve/'));
    expect(new Set(again)).toEqual(new Set(['GET /team/tiny/resolve/main/config.json']));
  });

  test('bytes that are not what the hub lists are refused and not kept', async () => {
    hub = await startHub({ repo: 'team/tiny', revision: 'main', folder: tiny, broken: 'model.safetensors' });
    await expect(download('hub-3')).rejects.toThrow(/model\.safetensors does not have the sha256/);
    expect(await readdir(join(folder, 'hub-3'))).not.toContain('model.safetensors');
  });

  test('a closed model says what to set; with the token it opens', async () => {
    hub = await startHub({ repo: 'team/tiny', revision: 'main', folder: tiny, token: 'hf_right' });
    await expect(download('hub-4')).rejects.toThrow(/HF_TOKEN/);
    await download('hub-4', { token: 'hf_right' });
    expect(await readdir(join(folder, 'hub-4'))).toContain('model.safetensors');
  });

  test('a model or a revision that is not there is named', async () => {
    hub = await startHub({ repo: 'team/tiny', revision: 'main', folder: tiny });
    await expect(download('hub-5', { repo: 'team/other' })).rejects.toThrow(/no model team\/other at main/);
    await expect(download('hub-5', { revision: 'v9' })).rejects.toThrow(/team\/tiny at v9/);
  });
});
