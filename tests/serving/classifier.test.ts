// Trained heads read back from the folders that a run writes, against what transformers and PEFT compute with the same numbers.
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openEngine } from '../../src/engine/engine.ts';
import { readMeaning } from '../../src/formats/classifier-config.ts';
import { readAdapter } from '../../src/formats/peft.ts';
import { openFineTuned } from '../../src/serving/classifier.ts';
import { headFixtures, writeHeadAdapter } from './head-fixtures.ts';
import { golden } from './serving.ts';

const fixtures = headFixtures.filter(({ kind }) => kind === 'lora');

describe.each(fixtures)('$name', fixture => {
  it('gives the outputs of PEFT to 1e-4, for texts of different lengths at once', async () => {
    const { directory, meaning } = await writeHeadAdapter(fixture);
    expect(await readMeaning(directory)).toEqual(meaning);
    const engine = await openEngine({ engine: 'onnx', device: 'cpu', threads: 1 });
    const { classifier, head } = await openFineTuned(engine, {
      modelDirectory: golden(fixture.model),
      adapterDirectory: directory,
    });
    const outputs = await Promise.all(
      fixture.examples.map(({ tokens }) => classifier.outputs({ tokens, head })),
    );
    outputs.forEach((found, i) => {
      found.forEach((value: number, j: number) => {
        expect(Math.abs(value - fixture.logits[i]![j]!), `text ${i}`).toBeLessThan(1e-4);
      });
    });
    await classifier.close();
  });
});

it('what has no head is refused, and a head is refused where texts are generated', async () => {
  const engine = await openEngine({ engine: 'onnx', device: 'cpu', threads: 1 });
  const none = openFineTuned(engine, { modelDirectory: golden('llama-tiny'), adapterDirectory: null });
  await expect(none).rejects.toThrow('fine-tuned has no classification or regression head');
  const { directory, model } = await writeHeadAdapter(fixtures[0]!);
  await expect(readAdapter(directory, model.linearLayers)).rejects.toThrow(
    /modules_to_save .* is not supported/,
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
  const { directory } = await writeHeadAdapter(fixture);
  const file = join(directory, 'classifier_config.json');
  const config = JSON.parse(readFileSync(file, 'utf8'));
  await writeFile(file, JSON.stringify({ ...config, id2label: { 0: 'a', 1: 'b' } }));
  const opened = openFineTuned(engine, { modelDirectory: golden('bert'), adapterDirectory: directory });
  await expect(opened).rejects.toThrow('classifier.weight [3,32] instead of [2,32]');
});
