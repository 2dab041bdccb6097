// Throw-away copies of golden model folders, changed on the way.
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { readHeader, type TensorToWrite, writeSafetensors } from '../../src/formats/safetensors.ts';
import { goldenDirectory } from './golden.ts';

/** An empty folder that is gone after the test. */
export async function temporaryFolder(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'anneal-models-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  return directory;
}

export async function copyGolden(name: string): Promise<string> {
  const directory = join(await temporaryFolder(), name);
  await cp(goldenDirectory(name), directory, { recursive: true });
  return directory;
}

export async function changeJson(file: string, change: Record<string, unknown>): Promise<void> {
  const json = JSON.parse(await readFile(file, 'utf8'));
  await writeFile(file, JSON.stringify({ ...json, ...change }));
}

/** A causal golden model of one file as `...ForSequenceClassification`, with a head of zeros for two labels. */
export async function causalClassifier(name: string): Promise<string> {
  const directory = await copyGolden(name);
  const config = JSON.parse(await readFile(join(directory, 'config.json'), 'utf8'));
  const served = config.architectures[0].replace(/ForCausalLM$/, 'ForSequenceClassification');
  await changeJson(join(directory, 'config.json'), { architectures: [served], id2label: { 0: 'a', 1: 'b' } });
  await changeTensors(join(directory, 'model.safetensors'), tensors => {
    delete tensors['lm_head.weight'];
    const shape = [2, config.hidden_size];
    tensors['score.weight'] = { dtype: 'F32', shape, data: new Float32Array(2 * config.hidden_size) };
  });
  return directory;
}

/** Rewrites a safetensors file; `change` may drop, add and rename its tensors. */
export async function changeTensors(
  file: string,
  change: (tensors: Record<string, TensorToWrite>) => void,
): Promise<void> {
  const stored = (await readHeader(file)).tensors;
  const tensors: Record<string, TensorToWrite> = Object.fromEntries(
    Object.entries(stored).map(([name, data]) => [name, { dtype: data.dtype, shape: data.shape, data }]),
  );
  change(tensors);
  await writeSafetensors(file, tensors);
}
