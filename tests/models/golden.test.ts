// Every served architecture against transformers and PEFT: logits, loss and gradients, packed, on every engine.
import { describe, expect, test } from 'vitest';
import { openCpuEngine } from '../../src/engine/cpu.ts';
import { enginesUnderTest } from '../engine/engines.ts';
import { expectGradients, largestDifference, loadGolden, runGradients, runLogits } from './golden.ts';

const engines = [await openCpuEngine(), ...(await enginesUnderTest())];

const MODELS = [
  'llama2',
  'llama3',
  'llama-linear',
  'llama-bias',
  'llama-bf16-sharded',
  'llama-f16',
  'mistral',
  'qwen2',
  'qwen3',
  'gpt2',
  'gpt2-scaled',
  'gpt-neox',
  'gpt-neox-serial',
  'falcon-7b',
  'falcon-40b',
  'falcon-11b',
  'falcon-serial',
  'mixtral',
  'gemma2',
  'gemma3',
  'phi3',
  'phi3-longrope',
  'cohere',
  'cohere-normed',
  't5',
  't5-v1.1',
  't5-v1.1-old',
  'bart',
  'bart-base',
  'marian',
  'marian-two',
];

/** Those whose fixtures hold the gradients of every tensor. */
const WHOLE = [
  'llama2',
  'llama3',
  'mistral',
  'qwen2',
  'qwen3',
  'gpt2',
  'gpt-neox',
  'falcon-7b',
  'falcon-40b',
  'mixtral',
  'gemma2',
  'gemma3',
  'phi3',
  'cohere',
  'cohere-normed',
  't5',
  't5-v1.1',
  'bart',
  'marian',
];

describe.each(engines)('$name on $device', engine => {
  describe.each(MODELS)('%s', name => {
    test('logits', async () => {
      const { model, golden } = await loadGolden(name);
      const logits = await runLogits(engine, model, golden.batch);
      expect(largestDifference(golden.batch, logits, golden.tensors.logits!)).toBeLessThan(1e-4);
    });

    test('logits with an adapter that PEFT wrote', async () => {
      const { model, adapter, golden } = await loadGolden(name);
      const logits = await runLogits(engine, model, golden.batch, adapter);
      expect(largestDifference(golden.batch, logits, golden.tensors.lora_logits!)).toBeLessThan(1e-4);
      expect(largestDifference(golden.batch, logits, golden.tensors.logits!)).toBeGreaterThan(0.1);
    });

    test('loss and gradients of the adapter', async () => {
      const { model, adapter, golden } = await loadGolden(name);
      const { loss, gradients } = await runGradients(engine, model, golden.batch, adapter);
      expect(Math.abs(loss - golden.loraLoss)).toBeLessThan(1e-5);
      expectGradients(gradients, golden.tensors, 'lora_gradient.');
    });
  });

  test.each(WHOLE)('%s: loss and gradients of every tensor', async name => {
    const { model, golden } = await loadGolden(name);
    const { loss, gradients } = await runGradients(engine, model, golden.batch);
    expect(Math.abs(loss - golden.loss)).toBeLessThan(1e-5);
    expectGradients(gradients, golden.tensors, 'gradient.');
  });
});
