// An adapter beside its layers computes what the layers compute with it added to their weights, in every architecture.
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { addAdapter } from '../../src/exporting/merge.ts';
import { type Adapter, readAdapter } from '../../src/formats/peft.ts';
import { readTensor } from '../../src/formats/safetensors.ts';
import { type Model, openModel } from '../../src/models/registry.ts';
import { enginesUnderTest } from '../engine/engines.ts';
import { changeTensors, copyGolden } from './folders.ts';
import { goldenDirectory, largestDifference, readGolden, runHidden, runLogits } from './golden.ts';
import { PROVEN } from './proven.ts';

const [engine] = await enginesUnderTest();

async function openMerged(name: string, model: Model, adapter: Adapter): Promise<Model> {
  const merged = new Map<string, Float32Array>();
  for (const layer of model.linearLayers)
    merged.set(
      layer.weight,
      addAdapter(layer, await readTensor(model.weights[layer.weight]!), adapter.layers[layer.name]!, adapter),
    );
  const directory = await copyGolden(name);
  await changeTensors(join(directory, 'model.safetensors'), tensors => {
    for (const [weight, data] of merged) tensors[weight] = { ...tensors[weight]!, data };
  });
  return openModel(directory);
}

// The file of `gpt2` spells its tensors otherwise: `gpt2-scaled` stands for it.
test.each([...PROVEN.filter(name => name !== 'gpt2'), 'gpt2-scaled', 'modernbert-bias'])(
  'of %s, to 1e-5',
  async name => {
    const model = await openModel(goldenDirectory(name));
    const adapter = await readAdapter(join(goldenDirectory(name), 'adapter'), model.linearLayers);
    const { batch } = await readGolden(name);
    const run = model.kind === 'encoder' ? runHidden : runLogits;
    const beside = await run(engine!, model, batch, adapter);
    const within = await run(engine!, await openMerged(name, model, adapter), batch);
    expect(largestDifference(batch, within, beside)).toBeLessThan(1e-5);
    expect(largestDifference(batch, await run(engine!, model, batch), beside)).toBeGreaterThan(0.1);
  },
);
