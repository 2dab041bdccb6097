// The manifest: what it takes to reproduce a model. Hashes of data and base model, hyperparameters, seed, layout,
// versions.
import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { Progress } from './checkpoint.ts';
import type { Method } from './protocol.ts';

const MODEL_FILES = /\.(safetensors|json|jinja|model)$/;

async function sha256(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) hash.update(chunk);
  return hash.digest('hex');
}

async function hashFolder(directory: string): Promise<Record<string, string>> {
  const hashes: Record<string, string> = {};
  for (const name of (await readdir(directory)).filter(found => MODEL_FILES.test(found)).sort())
    hashes[name] = await sha256(join(directory, name));
  return hashes;
}

/** Bypasses the package's `exports`, which may hide its package.json. */
async function packageVersion(name: string): Promise<string> {
  const folders = createRequire(import.meta.url).resolve.paths(name) ?? [];
  const file = folders.map(folder => join(folder, name, 'package.json')).find(existsSync);
  return file ? JSON.parse(await readFile(file, 'utf8')).version : 'not installed';
}

async function ownVersion(): Promise<string> {
  const text = await readFile(join(import.meta.dirname, '../../package.json'), 'utf8');
  return JSON.parse(text).version;
}

export interface ManifestOptions {
  readonly method: Method;
  readonly modelDirectory: string;
  readonly adapterDirectory: string | null;
  readonly progress: Progress;
}

export async function makeManifest(options: ManifestOptions): Promise<Record<string, unknown>> {
  const { progress, modelDirectory, adapterDirectory } = options;
  return {
    versions: {
      anneal: await ownVersion(),
      node: process.version,
      platform: `${process.platform}-${process.arch}`,
      tfjs: await packageVersion('@tensorflow/tfjs'),
      'onnxruntime-node': await packageVersion('onnxruntime-node'),
    },
    method: options.method,
    seed: progress.seed,
    hyperparameters: progress.hyperparameters,
    layout: progress.layout,
    data: { training_sha256: progress.trainingSha256, validation_sha256: progress.validationSha256 },
    base_model: await hashFolder(modelDirectory),
    adapter: adapterDirectory ? await hashFolder(adapterDirectory) : null,
    steps: progress.step,
    best_step: progress.best?.step ?? null,
    trained_tokens: progress.trainedTokens,
  };
}
