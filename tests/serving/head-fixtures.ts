// Heads for classes and numbers of tests/golden/heads as folders of ours: an adapter, or a model that was trained whole.
import { mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type OutputMeaning, type Problem, writeMeaning } from '../../src/formats/classifier-config.ts';
import { writeModelFolder } from '../../src/formats/model-folder.ts';
import { writeAdapter } from '../../src/formats/peft.ts';
import { readHeader, readTensor, type TensorToWrite } from '../../src/formats/safetensors.ts';
import { openModel } from '../../src/models/registry.ts';
import { sequenceHead } from '../../src/models/sequence-head.ts';
import { golden } from './serving.ts';

export interface HeadFixture {
  readonly name: string;
  /** Golden folder of the base. */
  readonly model: string;
  readonly problem: Problem;
  readonly kind: 'lora' | 'full';
  readonly labels: readonly string[];
  readonly rank: number;
  readonly alpha: number;
  readonly examples: readonly { tokens: number[] }[];
  /** Of PEFT or transformers, [examples][outputs]. */
  readonly logits: readonly number[][];
}

const HEADS = golden('heads');

export const headFixtures: readonly HeadFixture[] = readdirSync(HEADS).map(name => ({
  name,
  ...JSON.parse(readFileSync(join(HEADS, name, 'golden.json'), 'utf8')),
}));

async function openFixture({ name, model: base, labels }: HeadFixture) {
  const { tensors } = await readHeader(join(HEADS, name, 'golden.safetensors'));
  const start = async (parameter: string) => readTensor(tensors[`start.${parameter}`]!);
  const model = await openModel(golden(base), 'sequence');
  const head = sequenceHead(model, labels.length);
  const whole = Object.entries(head.tensors).map(
    async ([tensor, shape]) => [tensor, { shape, data: await start(tensor) }] as const,
  );
  const has = (parameter: string) => tensors[`start.${parameter}`] !== undefined;
  return { model, head, start, has, whole: Object.fromEntries(await Promise.all(whole)) };
}

const meaningOf = ({ problem, labels }: HeadFixture): OutputMeaning => ({ problem, labels, reads: 'input' });

/** The numbers of an adapter's fixture as a folder. */
export async function writeHeadAdapter(fixture: HeadFixture) {
  const { model: base, rank, alpha } = fixture;
  const { model, head, start, has, whole } = await openFixture(fixture);
  const adapted = model.linearLayers.filter(({ name }) => has(`${name}.lora_A`));
  const layers = adapted.map(
    async ({ name }) =>
      [name, { a: await start(`${name}.lora_A`), b: await start(`${name}.lora_B`) }] as const,
  );
  const directory = mkdtempSync(join(tmpdir(), 'anneal-head-'));
  await writeAdapter(directory, {
    rank,
    alpha,
    dropout: 0,
    baseModel: base,
    linearLayers: model.linearLayers,
    layers: Object.fromEntries(await Promise.all(layers)),
    head: { modules: head.modules, tensors: whole },
  });
  const meaning = meaningOf(fixture);
  await writeMeaning(directory, meaning);
  return { directory, meaning, model };
}

/** The numbers of a fixture that was trained whole as a model's folder. */
export async function writeHeadModel(fixture: HeadFixture): Promise<string> {
  const { model, start, has, whole } = await openFixture(fixture);
  const trained = Object.entries(model.weights).map(async ([name, { shape, dtype, ...stored }]) => {
    const data = has(name) ? await start(name) : { shape, dtype, ...stored };
    return [name, { dtype, shape, data }] as const;
  });
  const heads = Object.entries(whole).map(([name, { shape, data }]): [string, TensorToWrite] => [
    name,
    { dtype: 'F32', shape, data },
  ]);
  const directory = mkdtempSync(join(tmpdir(), 'anneal-head-'));
  await writeModelFolder(directory, {
    base: model,
    tensors: Object.fromEntries(await Promise.all(trained)),
    head: { served: model.served, meaning: meaningOf(fixture), tensors: Object.fromEntries(heads) },
  });
  return directory;
}
