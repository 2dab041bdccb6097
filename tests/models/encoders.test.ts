// Every encoder against transformers and PEFT: last hidden states and gradients, packed, on every engine.
import { describe, expect, test } from 'vitest';
import { openCpuEngine } from '../../src/engine/cpu.ts';
import { openModel, requireCausal } from '../../src/models/registry.ts';
import { enginesUnderTest } from '../engine/engines.ts';
import {
  expectGradients,
  goldenDirectory,
  largestDifference,
  loadGolden,
  type readGolden,
  runHidden,
  runProbe,
} from './golden.ts';

const engines = [await openCpuEngine(), ...(await enginesUnderTest())];

const MODELS = [
  'bert',
  'bert-model',
  'roberta',
  'xlm-roberta',
  'distilbert',
  'modernbert',
  'modernbert-bias',
];

describe.each(engines)('$name on $device', engine => {
  describe.each(MODELS)('%s', name => {
    test('hidden states', async () => {
      const { model, golden } = await loadGolden(name);
      const hidden = await runHidden(engine, model, golden.batch);
      expect(largestDifference(golden.batch, hidden, golden.tensors.hidden!)).toBeLessThan(1e-4);
    });

    test('hidden states with an adapter that PEFT wrote', async () => {
      const { model, adapter, golden } = await loadGolden(name);
      const hidden = await runHidden(engine, model, golden.batch, adapter);
      expect(largestDifference(golden.batch, hidden, golden.tensors.lora_hidden!)).toBeLessThan(1e-4);
      expect(largestDifference(golden.batch, hidden, golden.tensors.hidden!)).toBeGreaterThan(0.1);
    });

    test('gradients of the adapter', async () => {
      const { model, adapter, golden } = await loadGolden(name);
      const probe = withoutPadding(golden);
      const { loss, gradients } = await runProbe(engine, model, golden.batch, probe, adapter);
      expect(Math.abs(loss - golden.loraLoss)).toBeLessThan(1e-5);
      expectGradients(gradients, golden.tensors, 'lora_gradient.');
    });
  });

  test.each(['bert', 'roberta', 'distilbert', 'modernbert', 'modernbert-bias'])(
    '%s: gradients of every tensor',
    async name => {
      const { model, golden } = await loadGolden(name);
      const { loss, gradients } = await runProbe(engine, model, golden.batch, withoutPadding(golden));
      expect(Math.abs(loss - golden.loss)).toBeLessThan(1e-5);
      expectGradients(gradients, golden.tensors, 'gradient.');
    },
  );
});

/** The loss's weights, zero where a row is padded: there the reference has no hidden states. */
function withoutPadding({ batch, tensors }: Awaited<ReturnType<typeof readGolden>>): Float32Array {
  const segments = batch.segments.flat();
  const width = tensors.probe!.length / segments.length;
  return tensors.probe!.map((value, i) => (segments[Math.floor(i / width)]! < 0 ? 0 : value));
}

test.each([
  [
    'bert',
    ['bert.pooler.dense.weight', 'cls.predictions.transform.dense.weight', 'cls.seq_relationship.bias'],
  ],
  ['bert-model', ['pooler.dense.weight']],
  ['roberta', ['lm_head.bias', 'lm_head.layer_norm.weight']],
  ['distilbert', ['pre_classifier.weight', 'classifier.bias']],
  ['modernbert', ['head.norm.weight', 'decoder.bias']],
])('heads in the files of %s are named as left out', async (name, some) => {
  const { kind, leftOut, outputWeight, weights } = await openModel(goldenDirectory(name));
  expect(kind).toBe('encoder');
  expect(Object.keys(leftOut)).toEqual(expect.arrayContaining(some));
  expect(Object.keys(weights).filter(name => name in leftOut)).toEqual([]);
  expect(outputWeight).toBeNull();
});

test('an encoder is refused where texts are continued', async () => {
  const model = await openModel(goldenDirectory('bert'));
  expect(() => requireCausal(model)).toThrow('bert is an encoder model: it cannot continue text');
});
