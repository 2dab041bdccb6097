// Trained heads read back from the folders that a run writes, against what transformers and PEFT compute with the same numbers.
import { mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openEngine } from '../../src/engine/engine.ts';
import { type OutputMeaning, readMeaning, writeMeaning } from '../../src/formats/classifier-config.ts';
import { readAdapter, writeAdapter } from '../../src/formats/peft.ts';
import { readHeader, readTensor } from '../../src/formats/safetensors.ts';
import { openModel } from '../../src/models/registry.ts';
import { sequenceHead } from '../../src/models/sequence-head.ts';
import { openFineTuned } from '../../src/serving/classifier.ts';
import { golden } from './serving.ts';

const HEADS = golden('heads');
const fixtures = readdirSync(HEADS)
  .map(name => ({ name, ...JSON.parse(readFileSync(join(HEADS, name, 'golden.json'), 'utf8')) }))
  .filter(({ kind }) => kind === 'lora');

/** The numbers of a fixture as a folder of ours. */
async function writeFixture({ name, model: base, problem, labels, rank, alpha }: (typeof fixtures)[number]) {
  const { tensors } = await readHeader(join(HEADS, name, 'golden.safetensors'));
  const start = async (parameter: string) => readTensor(tensors[`start.${parameter}`]!);
  const model = await openModel(golden(base), 'sequence');
  const head = sequenceHead(model, labels.length);
  const adapted = model.linearLayers.filter(layer => tensors[`start.${layer.name}.lora_A`]);
  const layers = await Promise.all(
    adapted.map(
      async layer =>
        [
          layer.name,
          { a: await start(`${layer.name}.lora_A`), b: await start(`${layer.name}.lora_B`) },
        ] as const,
    ),
  );
  const whole = await Promise.all(
    Object.entries(head.tensors).map(
      async ([tensor, shape]) => [tensor, { shape, data: await start(tensor) }] as const,
    ),
  );
  const directory = mkdtempSync(join(tmpdir(), 'anneal-head-'));
  await writeAdapter(directory, {
    rank,
    alpha,
    dropout: 0,
    baseModel: base,
    linearLayers: model.linearLayers,
    layers: Object.fromEntries(layers),
    head: { modules: head.modules, tensors: Object.fromEntries(whole) },
  });
  const meaning: OutputMeaning = { problem, labels, reads: 'input' };
  await writeMeaning(directory, meaning);
  return { directory, meaning, model };
}

describe.each(fixtures)('$name', fixture => {
  it('gives the outputs of PEFT to 1e-4, for texts of different lengths at once', async () => {
    const { directory, meaning } = await writeFixture(fixture);
    expect(await readMeaning(directory)).toEqual(meaning);
    const engine = await openEngine({ engine: 'onnx', device: 'cpu', threads: 1 });
    const { classifier, head } = await openFineTuned(engine, {
      modelDirectory: golden(fixture.model),
      adapterDirectory: directory,
    });
    const outputs = await Promise.all(
      fixture.examples.map(({ tokens }: { tokens: number[] }) => classifier.outputs({ tokens, head })),
    );
    outputs.forEach((found, i) => {
      found.forEach((value: number, j: number) => {
        expect(Math.abs(value - fixture.logits[i][j]), `text ${i}`).toBeLessThan(1e-4);
      });
    });
    await classifier.close();
  });
});

it('what has no head is refused, and a head is refused where texts are generated', async () => {
  const engine = await openEngine({ engine: 'onnx', device: 'cpu', threads: 1 });
  const none = openFineTuned(engine, { modelDirectory: golden('llama-tiny'), adapterDirectory: null });
  await expect(none).rejects.toThrow('fine-tuned has no head for classes or numbers');
  const { directory, model } = await writeFixture(fixtures[0]!);
  await expect(readAdapter(directory, model.linearLayers)).rejects.toThrow(
    /modules_to_save .* is not served/,
  );
});

it('a saved classifier that names no labels has those of transformers', async () => {
  const engine = await openEngine({ engine: 'onnx', device: 'cpu', threads: 1 });
  const opened = await openFineTuned(engine, {
    modelDirectory: golden('distilbert'),
    adapterDirectory: null,
  });
  expect(opened.head.meaning).toEqual({ problem: 'single', labels: ['LABEL_0', 'LABEL_1'], reads: 'input' });
  await opened.classifier.close();
});

it('a head that is not whole is refused by the tensor that is missing', async () => {
  const engine = await openEngine({ engine: 'onnx', device: 'cpu', threads: 1 });
  const fixture = fixtures.find(({ name }) => name === 'bert-single')!;
  const { directory } = await writeFixture(fixture);
  const file = join(directory, 'classifier_config.json');
  const config = JSON.parse(readFileSync(file, 'utf8'));
  await writeFile(file, JSON.stringify({ ...config, id2label: { 0: 'a', 1: 'b' } }));
  const opened = openFineTuned(engine, { modelDirectory: golden('bert'), adapterDirectory: directory });
  await expect(opened).rejects.toThrow('classifier.weight [3,32] instead of [2,32]');
});
