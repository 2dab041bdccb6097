// Exports a fine-tuned model as one file and checks what it wrote: opened again, it must say what the served model says.
// It knows folders and numbers only: no database, no object store.
import { copyFile, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Engine, StoredTensor } from '../engine/program.ts';
import { readMeaning } from '../formats/classifier-config.ts';
import { readGgufTensors, writeGguf } from '../formats/gguf.ts';
import { readAdapter } from '../formats/peft.ts';
import { readTensor, type TensorToWrite, writeSafetensors } from '../formats/safetensors.ts';
import { ModelError } from '../models/model-error.ts';
import { type Model, openModel } from '../models/registry.ts';
import { writeArchive } from './archive.ts';
import { largestDifference, type Speaker } from './compare.ts';
import { ggufName, ggufTarget, reorderedHeads, reorderHeads, toGgufFile } from './gguf-model.ts';
import { mergedTensors } from './merge.ts';

export type ExportFormat = 'adapter' | 'merged' | 'gguf';

export interface ExportSpec {
  readonly format: ExportFormat;
  /** The model's name; files are called after it. */
  readonly name: string;
  /** Of the base, or of a model that was trained whole. */
  readonly modelDirectory: string;
  readonly adapterDirectory: string | null;
  /** Empty, and the caller's to remove. */
  readonly workDirectory: string;
}

export interface Exported {
  readonly file: string;
  readonly filename: string;
  /** Between the served model's log-probabilities and the exported one's. */
  readonly largestDifference: number;
}

/** Throws ModelError for what the format cannot hold, and Error when what was written says something else. */
export async function exportModel(engine: Engine, spec: ExportSpec): Promise<Exported> {
  return EXPORTERS[spec.format](engine, spec, await openExportable(spec));
}

/** What is written is checked by the log-probabilities of texts, which these models alone have, and without a head for classes. */
async function openExportable({ modelDirectory, adapterDirectory }: ExportSpec): Promise<Model> {
  const model = await openModel(modelDirectory);
  const classifies = adapterDirectory !== null && (await readMeaning(adapterDirectory)) !== null;
  if (model.kind === 'causal' && model.outputWeight !== null && !classifies) return model;
  throw new ModelError(
    'exports are of causal models that write text: not of classifiers, encoders or encoder-decoders',
  );
}

const EXPORTERS: Record<ExportFormat, (engine: Engine, spec: ExportSpec, model: Model) => Promise<Exported>> =
  {
    adapter: exportAdapter,
    merged: exportMerged,
    gguf: exportGguf,
  };

const plainName = (name: string): string => name.replace(/[^A-Za-z0-9._-]+/g, '-');

async function copyFiles(from: string, to: string, wanted: (name: string) => boolean): Promise<void> {
  for (const entry of await readdir(from, { withFileTypes: true }))
    if (entry.isFile() && wanted(entry.name)) await copyFile(join(from, entry.name), join(to, entry.name));
}

async function exportAdapter(engine: Engine, spec: ExportSpec, model: Model): Promise<Exported> {
  const { adapterDirectory, workDirectory } = spec;
  if (!adapterDirectory) throw new ModelError('it was trained whole: it has no adapter; ask for merged');
  const folder = join(workDirectory, 'adapter');
  await mkdir(folder);
  await copyFiles(adapterDirectory, folder, () => true);
  const served = { model, adapterDirectory };
  return archive(engine, spec, {
    folder,
    suffix: 'adapter',
    served,
    written: { model, adapterDirectory: folder },
  });
}

/** Everything of a model's folder that is not weights. */
const isCompanion = (name: string): boolean => !/\.safetensors(\.index\.json)?$/.test(name);

async function exportMerged(engine: Engine, spec: ExportSpec, model: Model): Promise<Exported> {
  const folder = join(spec.workDirectory, 'merged');
  await writeMerged(spec, model, folder);
  const written = { model: await openModel(folder), adapterDirectory: null };
  return archive(engine, spec, { folder, suffix: 'merged', served: servedBy(spec, model), written });
}

const servedBy = ({ adapterDirectory }: ExportSpec, model: Model): Speaker => ({ model, adapterDirectory });

async function writeMerged(spec: ExportSpec, model: Model, folder: string): Promise<void> {
  await mkdir(folder);
  await copyFiles(spec.modelDirectory, folder, isCompanion);
  await writeSafetensors(join(folder, 'model.safetensors'), await mergedOf(spec, model));
}

async function mergedOf({ adapterDirectory }: ExportSpec, model: Model) {
  return mergedTensors(
    model,
    adapterDirectory ? await readAdapter(adapterDirectory, model.linearLayers) : null,
  );
}

async function exportGguf(engine: Engine, spec: ExportSpec, model: Model): Promise<Exported> {
  const file = join(spec.workDirectory, 'model.gguf');
  await writeGguf(file, await toGgufFile(model, await mergedOf(spec, model), spec.name));
  const folder = join(spec.workDirectory, 'read-back');
  await readBack(file, model, folder);
  const written = { model: await openModel(folder), adapterDirectory: null };
  const difference = await checked(engine, servedBy(spec, model), written);
  await rm(folder, { recursive: true });
  return { file, filename: `${plainName(spec.name)}.gguf`, largestDifference: difference };
}

/** The file's tensors as a Hugging Face folder again: what was written is what is checked. */
async function readBack(file: string, model: Model, folder: string): Promise<void> {
  await mkdir(folder);
  await copyFiles(model.directory, folder, isCompanion);
  const stored = await readGgufTensors(file);
  const target = ggufTarget(model);
  const toTensor = ([name, { shape, dtype }]: [string, StoredTensor]): [string, TensorToWrite] => {
    const heads = reorderedHeads(name, model, target);
    const data = async () => {
      const values = await readTensor(stored[ggufName(name)]!);
      return heads === null ? values : reorderHeads(values, heads, shape[0]!, true);
    };
    return [name, { shape, dtype, data }];
  };
  const tensors = Object.fromEntries(Object.entries(model.weights).map(toTensor));
  await writeSafetensors(join(folder, 'model.safetensors'), tensors);
}

interface Folder {
  readonly folder: string;
  readonly suffix: string;
  readonly served: Speaker;
  readonly written: Speaker;
}

async function archive(
  engine: Engine,
  spec: ExportSpec,
  { folder, suffix, served, written }: Folder,
): Promise<Exported> {
  const difference = await checked(engine, served, written);
  const name = `${plainName(spec.name)}-${suffix}`;
  const file = join(spec.workDirectory, 'export.tar');
  await writeArchive(folder, name, file);
  return { file, filename: `${name}.tar`, largestDifference: difference };
}

/** What merging into weights of a type may move a log-probability by: each weight is rounded once more. */
const TOLERANCES = { F32: 1e-3, F16: 0.02, BF16: 0.15 } as const;

async function checked(engine: Engine, served: Speaker, written: Speaker): Promise<number> {
  const difference = await largestDifference(engine, served, written);
  const matrix = Object.values(served.model.weights).find(({ shape }) => shape.length > 1)!;
  const tolerance = TOLERANCES[matrix.dtype];
  if (difference <= tolerance) return difference;
  throw new Error(
    `the exported model differs by ${difference} in a log-probability; ${tolerance} is what ${matrix.dtype} may differ by`,
  );
}
