// Exports a fine-tuned model as one file and verifies it: read back, it must compute what the served model computes. It
// knows folders only: no database, no object store.
import { cp, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Engine, StoredTensor } from '../engine/program.ts';
import { writeGguf } from '../formats/gguf.ts';
import { type HeadToWrite, writeModelFolder } from '../formats/model-folder.ts';
import { readAdapter } from '../formats/peft.ts';
import type { TensorToWrite } from '../formats/safetensors.ts';
import { readText } from '../models/json-file.ts';
import { ModelError } from '../models/model-error.ts';
import { type Model, openModel } from '../models/registry.ts';
import { loadHead } from '../serving/classifier.ts';
import { writeArchive } from './archive.ts';
import { comparedOf, largestDifference, type ModelFolders } from './compare.ts';
import type { Compared, ExportFormat } from './formats.ts';
import { readBackGguf, toGgufFile } from './gguf-model.ts';
import { readTokenizerFiles } from './gguf-vocabulary.ts';
import { type MergedTensor, mergedTensors } from './merge.ts';

export interface ExportSpec extends ModelFolders {
  readonly format: ExportFormat;
  /** The model's name, used for file names. */
  readonly name: string;
  /** Empty at first; removed by the caller. */
  readonly workDirectory: string;
}

export interface Exported {
  readonly file: string;
  readonly filename: string;
  readonly compared: Compared;
  /** Largest difference between outputs of the served and the exported model. */
  readonly largestDifference: number;
}

/** The model as it is served, and what it is compared by. */
interface Subject extends ExportSpec {
  readonly model: Model;
  readonly compared: Compared;
}

/** Throws ModelError for what the format cannot represent, and Error if the exported model computes something else. */
export async function exportModel(engine: Engine, spec: ExportSpec): Promise<Exported> {
  return EXPORTERS[spec.format](engine, await openSubject(spec));
}

async function openSubject(spec: ExportSpec): Promise<Subject> {
  const { modelDirectory, adapterDirectory } = spec;
  const saved = await openModel(modelDirectory);
  const compared = await comparedOf(saved, adapterDirectory);
  return {
    ...spec,
    compared,
    model: compared === 'outputs' ? await openModel(modelDirectory, 'sequence') : saved,
  };
}

const EXPORTERS: Record<ExportFormat, (engine: Engine, subject: Subject) => Promise<Exported>> = {
  async adapter(engine, subject) {
    const { adapterDirectory, modelDirectory, workDirectory } = subject;
    if (!adapterDirectory) throw new ModelError('it was trained whole: it has no adapter');
    const folder = join(workDirectory, 'adapter');
    await cp(adapterDirectory, folder, { recursive: true });
    return archive(engine, subject, folder, { modelDirectory, adapterDirectory: folder });
  },
  async merged(engine, subject) {
    const folder = join(subject.workDirectory, 'merged');
    await writeMerged(subject, folder);
    return archive(engine, subject, folder, { modelDirectory: folder, adapterDirectory: null });
  },
  async gguf(engine, subject) {
    const { model, name, workDirectory } = subject;
    const file = join(workDirectory, 'model.gguf');
    const files = await readTokenizerFiles(name => readText(join(model.directory, name)));
    await writeGguf(file, toGgufFile(model, await mergedOf(subject), files, name));
    const folder = join(workDirectory, 'read-back');
    await mkdir(folder);
    await writeModelFolder(folder, { base: model, tensors: await readBackGguf(file, model), head: null });
    const written = { modelDirectory: folder, adapterDirectory: null };
    const difference = await checkedDifference(engine, subject, written);
    await rm(folder, { recursive: true });
    return {
      file,
      filename: `${plainName(name)}.gguf`,
      compared: subject.compared,
      largestDifference: difference,
    };
  },
};

const plainName = (name: string): string => name.replace(/[^A-Za-z0-9._-]+/g, '-');

async function mergedOf({
  adapterDirectory,
  model,
  compared,
}: Subject): Promise<Record<string, MergedTensor>> {
  const head = compared === 'outputs';
  const adapter = adapterDirectory ? await readAdapter(adapterDirectory, model.linearLayers, { head }) : null;
  return mergedTensors(model, adapter);
}

async function writeMerged(subject: Subject, folder: string): Promise<void> {
  const { model, compared } = subject;
  await mkdir(folder);
  const head = compared === 'outputs' ? await headOf(subject) : null;
  // A model that gets no new head keeps the base's heads, although nothing here computes them.
  const others = head ? {} : mapValues(model.leftOut, asStored);
  await writeModelFolder(folder, { base: model, tensors: { ...(await mergedOf(subject)), ...others }, head });
}

const asStored = (data: StoredTensor): TensorToWrite => ({ dtype: data.dtype, shape: data.shape, data });

const mapValues = <From, To>(
  record: Readonly<Record<string, From>>,
  make: (value: From) => To,
): Record<string, To> =>
  Object.fromEntries(Object.entries(record).map(([name, value]) => [name, make(value)]));

async function headOf({ model, name, adapterDirectory }: Subject): Promise<HeadToWrite> {
  const { meaning, head, tensors } = await loadHead(model, name, adapterDirectory);
  const toWrite = ([name, shape]: [string, readonly number[]]): [string, TensorToWrite] => [
    name,
    { dtype: 'F32', shape, data: tensors[name] as Float32Array },
  ];
  return {
    served: model.served,
    meaning,
    tensors: Object.fromEntries(Object.entries(head.tensors).map(toWrite)),
  };
}

async function archive(
  engine: Engine,
  subject: Subject,
  folder: string,
  written: ModelFolders,
): Promise<Exported> {
  const difference = await checkedDifference(engine, subject, written);
  const name = `${plainName(subject.name)}-${subject.format}`;
  const file = join(subject.workDirectory, 'export.tar');
  await writeArchive(folder, name, file);
  return { file, filename: `${name}.tar`, compared: subject.compared, largestDifference: difference };
}

/** Largest difference that merging may cause, by the weights' type: each weight is rounded once more. */
const TOLERANCES: Record<Compared, Record<StoredTensor['dtype'], number>> = {
  logprobs: { F32: 1e-3, F16: 0.02, BF16: 0.15 },
  outputs: { F32: 1e-3, F16: 0.02, BF16: 0.15 },
  vectors: { F32: 1e-4, F16: 2e-3, BF16: 0.02 },
};

async function checkedDifference(
  engine: Engine,
  { model, compared, modelDirectory, adapterDirectory }: Subject,
  written: ModelFolders,
): Promise<number> {
  const difference = await largestDifference(engine, compared, { modelDirectory, adapterDirectory }, written);
  const matrix = Object.values(model.weights).find(({ shape }) => shape.length > 1)!;
  const tolerance = TOLERANCES[compared][matrix.dtype];
  if (difference <= tolerance) return difference;
  throw new Error(
    `the exported model differs by ${difference} in its ${compared}; ${tolerance} is what ${matrix.dtype} may differ by`,
  );
}
