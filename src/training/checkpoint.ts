// Checkpoints on disk: what a run needs to resume bit for bit, and models in the form that others load. A folder gets
// its name only when it is complete. The loop decides when to write one.
import {
  copyFile,
  link,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { writeMeaning } from '../formats/classifier-config.ts';
import { writeModelFolder } from '../formats/model-folder.ts';
import { writeAdapter } from '../formats/peft.ts';
import { readHeader, readTensor, type TensorToWrite, writeSafetensors } from '../formats/safetensors.ts';
import type { Head } from './objectives/objective.ts';
import type { OptimizerState } from './optimizer.ts';
import type { TrainedModel } from './programs.ts';
import type { ResolvedHyperparameters, StepMetrics } from './protocol.ts';
import { type StateLayout, viewsOf } from './state.ts';
import { type LoraTuning, loraNames } from './trainable.ts';

const FORMAT = 'anneal-resume-1';
const STATE_FILE = 'state.safetensors';
const PROGRESS_FILE = 'progress.json';
const BEST_FOLDER = 'best';
const PARTIAL = '.partial';

/** How far a run is, and what was decided for it. Together with the arrays it determines how the run continues. */
export interface Progress {
  readonly seed: number;
  readonly hyperparameters: ResolvedHyperparameters;
  layout: Record<string, number | number[] | string>;
  /** sha256 of the data, so that a run is not resumed on other data. */
  readonly trainingSha256: string;
  readonly validationSha256: string | null;
  /** Completed steps; the position in the data follows from it. */
  step: number;
  /** Trained tokens so far. */
  trainedTokens: number;
  history: StepMetrics[];
  best: { step: number; validation: ValidationResult | null } | null;
}

/** The loss and the objective's metric, by name; for graded answers, `reward_mean` only. */
export type ValidationResult = Readonly<Record<string, number>>;

export const isBetter = (one: ValidationResult, other: ValidationResult): boolean =>
  one.reward_mean === undefined ? one.loss! < other.loss! : one.reward_mean > other.reward_mean!;

const exists = (path: string) =>
  stat(path).then(
    () => true,
    () => false,
  );

/**
 * Fills a folder under a temporary name, then renames it. If the folder exists, it was written before a restart and is
 * the same.
 */
async function writeFolder(directory: string, fill: (partial: string) => Promise<void>): Promise<void> {
  if (await exists(directory)) return;
  const partial = directory + PARTIAL;
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { recursive: true });
  await fill(partial);
  await syncFolder(partial);
  await rename(partial, directory);
}

/** Syncs all files to disk before the folder is renamed. */
async function syncFolder(directory: string): Promise<void> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  for (const entry of entries.filter(found => found.isFile())) {
    const handle = await open(join(entry.parentPath, entry.name), 'r');
    await handle.sync().finally(() => handle.close());
  }
}

/** Hard-links the files into another folder; copies them where the file system cannot. */
async function linkFolder(from: string, to: string): Promise<void> {
  await writeFolder(to, async partial => {
    const entries = await readdir(from, { recursive: true, withFileTypes: true });
    for (const { parentPath, name } of entries.filter(entry => entry.isFile())) {
      const [source, target] = [join(parentPath, name), join(partial, relative(from, parentPath), name)];
      await mkdir(dirname(target), { recursive: true });
      await link(source, target).catch(() => copyFile(source, target));
    }
  });
}

export interface CheckpointFolders {
  resume(step: number): string;
  model(step: number): string;
}

export const foldersIn = (workDirectory: string): CheckpointFolders => ({
  resume: step => join(workDirectory, 'checkpoints', `resume-step-${step}`),
  model: step => join(workDirectory, 'checkpoints', `model-step-${step}`),
});

/** The trainer's own copy of the best model: the worker may delete checkpoint folders once it has stored them. */
const bestFolder = (workDirectory: string, step: number) => join(workDirectory, `best-step-${step}`);

export async function keepBest(workDirectory: string, step: number, from: string): Promise<void> {
  const folder = bestFolder(workDirectory, step);
  await linkFolder(from, folder);
  for (const name of await readdir(workDirectory))
    if (name.startsWith('best-step-') && name !== basename(folder))
      await rm(join(workDirectory, name), { recursive: true, force: true });
}

export const bestModel = (workDirectory: string, { best }: Progress): string => {
  if (!best) throw new Error('no model was saved yet');
  return bestFolder(workDirectory, best.step);
};

export async function writeResume(
  workDirectory: string,
  state: OptimizerState,
  progress: Progress,
): Promise<string> {
  const directory = foldersIn(workDirectory).resume(progress.step);
  const flat = (data: Float32Array): TensorToWrite => ({ dtype: 'F32', shape: [data.length], data });
  await writeFolder(directory, async partial => {
    const tensors = { parameters: flat(state.parameters), m: flat(state.m), v: flat(state.v) };
    await writeSafetensors(join(partial, STATE_FILE), tensors, { format: FORMAT });
    await writeFile(join(partial, PROGRESS_FILE), JSON.stringify({ format: FORMAT, ...progress }));
    if (progress.best) await linkFolder(bestModel(workDirectory, progress), join(partial, BEST_FOLDER));
  });
  return directory;
}

export async function readProgress(directory: string): Promise<Progress> {
  const { format, ...progress } = JSON.parse(await readFile(join(directory, PROGRESS_FILE), 'utf8'));
  if (format !== FORMAT) throw new Error(`${directory} is a checkpoint of format ${format}, not ${FORMAT}`);
  return progress;
}

/** Reads the arrays of a checkpoint, and puts its best model back in the trainer's place. */
export async function readState(
  directory: string,
  layout: StateLayout,
  workDirectory: string,
  progress: Progress,
): Promise<OptimizerState> {
  const { tensors } = await readHeader(join(directory, STATE_FILE));
  const read = async (name: string) => {
    const values = await readTensor(tensors[name]!);
    if (values.length !== layout.size)
      throw new Error(`${directory}: ${name} has ${values.length} numbers instead of ${layout.size}`);
    return values;
  };
  if (progress.best) await keepBest(workDirectory, progress.best.step, join(directory, BEST_FOLDER));
  return { parameters: await read('parameters'), m: await read('m'), v: await read('v') };
}

function writeFullModel(
  directory: string,
  { model, objective: { head, unused } }: TrainedModel,
  views: Record<string, Float32Array>,
): Promise<void> {
  const tensors = Object.entries(model.weights)
    .filter(([name]) => !unused.includes(name))
    .map(([name, stored]): [string, TensorToWrite] => [
      name,
      { dtype: stored.dtype, shape: stored.shape, data: views[name] ?? stored },
    ]);
  const own = Object.entries(headTensors(head, views)).map(
    ([name, { shape, data }]): [string, TensorToWrite] => [name, { dtype: 'F32', shape, data }],
  );
  return writeModelFolder(directory, {
    base: model,
    tensors: Object.fromEntries(tensors),
    head: head && { ...head, tensors: Object.fromEntries(own) },
  });
}

const headTensors = (head: Head | null, views: Record<string, Float32Array>) =>
  Object.fromEntries(
    (head?.parameters ?? []).map(({ name, shape }) => [name, { shape, data: views[name]! }]),
  );

async function writeLora(
  directory: string,
  { model, objective: { head } }: TrainedModel,
  tuning: LoraTuning,
  views: Record<string, Float32Array>,
  baseModel: string,
) {
  const pairs = tuning.layers.map(layer => {
    const names = loraNames(layer);
    return [layer.name, { a: views[names.a]!, b: views[names.b]! }] as const;
  });
  await writeAdapter(directory, {
    rank: tuning.rank,
    alpha: tuning.alpha,
    dropout: tuning.dropout,
    baseModel,
    kind: model.kind,
    linearLayers: model.linearLayers,
    layers: Object.fromEntries(pairs),
    head: head && { modules: head.modules, tensors: headTensors(head, views) },
  });
  if (head) await writeMeaning(directory, head.meaning);
}

/** Writes a PEFT folder, or for full fine-tuning a Hugging Face folder with the base model's dtypes. */
export async function writeModel(
  directory: string,
  trained: TrainedModel,
  parameters: Float32Array,
  baseModel: string,
): Promise<void> {
  const { tuning, state: layout } = trained;
  const views = viewsOf(parameters, layout);
  await writeFolder(directory, partial =>
    tuning.kind === 'full'
      ? writeFullModel(partial, trained, views)
      : writeLora(partial, trained, tuning, views, baseModel),
  );
}

/** Deletes what a killed process left half-written. */
export async function removePartials(workDirectory: string): Promise<void> {
  const entries = await readdir(workDirectory, { recursive: true, withFileTypes: true });
  for (const { parentPath, name } of entries)
    if (name.endsWith(PARTIAL)) await rm(join(parentPath, name), { recursive: true, force: true });
}
