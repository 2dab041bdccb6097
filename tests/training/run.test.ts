// Whole runs on the toy task: what they say, what they leave behind, and what they refuse.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { readAdapter, writeAdapter } from '../../src/formats/peft.ts';
import { readModelHeaders, readTensor } from '../../src/formats/safetensors.ts';
import { openModel } from '../../src/models/registry.ts';
import type { TrainerEvent } from '../../src/training/protocol.ts';
import { collect, eventsOf, goldenModel, toySpec, writeLines } from './toy-task.ts';

/** Adapters of a random model cannot bend its output far: 1.4 is about where the loss ends. */
const learning = { n_epochs: 20, batch_size: 6, rank: 8, alpha: 64, learning_rate: 0.02 };

describe('a run that learns', () => {
  const spec = toySpec({ engine: 'onnx', hyperparameters: learning, checkpointSeconds: 3600 }, 48);
  let events: TrainerEvent[];
  beforeAll(async () => {
    events = await collect(spec);
  });

  it('lowers the loss and answers right', () => {
    const steps = eventsOf(events, 'step').map(({ metrics }) => metrics);
    expect(steps).toHaveLength(160);
    expect(steps[0]!.train_loss).toBeGreaterThan(5);
    expect(steps.at(-1)!.train_loss).toBeLessThan(1.6);
    const report = eventsOf(events, 'evaluation')[0]!.report as Record<string, { exact_match: number }>;
    expect(report.base!.exact_match).toBe(0);
    expect(report.fine_tuned!.exact_match).toBeGreaterThan(0.5);
  });

  it('says beforehand what it will do, and how far it is', () => {
    const prepared = eventsOf(events, 'prepared')[0]!;
    expect(prepared).toMatchObject({
      totalSteps: 160,
      examples: 48,
      validationExamples: 6,
      truncatedExamples: 0,
    });
    const last = eventsOf(events, 'step').at(-1)!;
    expect(last.trainedTokens).toBe(prepared.trainedTokens);
    expect(last).toMatchObject({ totalSteps: 160, epoch: 20, remainingSeconds: 0 });
    expect(eventsOf(events, 'finished')[0]!.trainedTokens).toBe(prepared.trainedTokens);
  });

  it('measures validation within the epoch and all of it at its end', () => {
    const metrics = eventsOf(events, 'step').map(step => step.metrics);
    expect(metrics.filter(({ valid_loss: loss }) => loss !== undefined)).toHaveLength(80);
    const whole = metrics.filter(({ full_valid_loss: loss }) => loss !== undefined);
    expect(whole.map(({ step }) => step)).toEqual(Array.from({ length: 20 }, (_, epoch) => 8 * (epoch + 1)));
  });

  it('saves a model each epoch and gives the one of lowest validation loss', () => {
    const models = eventsOf(events, 'checkpoint').filter(({ kind }) => kind === 'model');
    expect(models.map(({ step }) => step)).toEqual(Array.from({ length: 20 }, (_, epoch) => 8 * (epoch + 1)));
    const best = models.reduce((a, b) => (b.metrics.full_valid_loss! < a.metrics.full_valid_loss! ? b : a));
    expect(eventsOf(events, 'finished')[0]!.bestStep).toBe(best.step);
  });

  it('writes adapters that fit the model', async () => {
    const model = await openModel(spec.modelDirectory);
    const { directory } = eventsOf(events, 'checkpoint').find(({ kind }) => kind === 'model')!;
    expect(readdirSync(directory).sort()).toEqual(['adapter_config.json', 'adapter_model.safetensors']);
    const adapter = await readAdapter(directory, model.linearLayers);
    expect([adapter.rank, adapter.alpha, Object.keys(adapter.layers).length]).toEqual([8, 64, 14]);
    expect(adapter.baseModel).toBe('llama-tiny');
    expect(adapter.layers[model.linearLayers[0]!.name]!.b.some(value => value !== 0)).toBe(true);
  });

  it('writes the results in OpenAI’s columns', () => {
    const lines = readFileSync(join(spec.workDirectory, 'results.csv'), 'utf8').split('\n');
    expect(lines[0]).toBe('step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy');
    expect(lines).toHaveLength(162);
    const first = eventsOf(events, 'step')[0]!.metrics;
    expect(lines[1]!.split(',')[1]).toBe(String(Number(first.train_loss.toFixed(5))));
  });

  it('leaves a manifest with hashes, seed, versions and every hyperparameter', () => {
    const { manifest } = eventsOf(events, 'finished')[0]!;
    expect(manifest).toMatchObject({ seed: 7, steps: 160, layout: { engine: 'onnx', threads: 1 } });
    expect(manifest.hyperparameters).toEqual(eventsOf(events, 'prepared')[0]!.hyperparameters);
    expect(JSON.stringify(manifest.data)).toMatch(/"training_sha256":"[0-9a-f]{64}"/);
    expect(JSON.stringify(manifest.base_model)).toMatch(/"model.safetensors":"[0-9a-f]{64}"/);
    expect(JSON.stringify(manifest.versions)).not.toContain('not installed');
  });

  it('goes on from its adapter with the adapter’s own shape', async () => {
    const { directory } = eventsOf(events, 'checkpoint').findLast(({ kind }) => kind === 'model')!;
    const hyperparameters = { n_epochs: 1, batch_size: 12, rank: undefined };
    const again = toySpec({ engine: 'onnx', adapterDirectory: directory, hyperparameters }, 24);
    const later = await collect(again);
    expect(eventsOf(later, 'prepared')[0]!.hyperparameters).toMatchObject({ rank: 8, alpha: 64 });
    expect(eventsOf(later, 'step')[0]!.metrics.train_loss).toBeLessThan(1.8);
  });
});

describe('a run that overfits', { timeout: 120_000 }, () => {
  const hyperparameters = { adapter: 'full', n_epochs: 20, batch_size: 6, learning_rate: 0.01 } as const;
  const spec = toySpec({ engine: 'onnx', hyperparameters, checkpointSeconds: 3600 });
  writeLines(spec.validationFile!, 6, 100, 1);

  it('gives the model of its best epoch, and the same when it was resumed after that', async () => {
    const events = await collect(spec);
    const losses = eventsOf(events, 'checkpoint').flatMap(({ kind, metrics }) =>
      kind === 'model' ? [metrics.full_valid_loss!] : [],
    );
    const best = losses.indexOf(Math.min(...losses));
    expect(best).toBeLessThan(losses.length - 2);
    const finished = eventsOf(events, 'finished')[0]!;
    expect(finished.bestStep).toBe(4 * (best + 1));
    const { validation } = eventsOf(events, 'evaluation')[0]!.report;
    expect(validation).toMatchObject({ loss: losses[best] });

    const { directory } = eventsOf(events, 'checkpoint').findLast(({ kind }) => kind === 'resume')!;
    const workDirectory = `${spec.workDirectory}-elsewhere`;
    const later = await collect({ ...spec, workDirectory, resumeDirectory: directory });
    expect(eventsOf(later, 'finished')).toEqual([finished]);
    expect(eventsOf(later, 'evaluation')).toEqual(eventsOf(events, 'evaluation'));
  });
});

describe('full fine-tuning', { timeout: 120_000 }, () => {
  it('learns, and its folder is a model that a run can start from', async () => {
    const hyperparameters = { ...learning, adapter: 'full', n_epochs: 12, learning_rate: 0.005 } as const;
    const spec = toySpec({ engine: 'onnx', hyperparameters, checkpointSeconds: 3600 }, 48);
    const events = await collect(spec);
    expect(eventsOf(events, 'step').at(-1)!.metrics.train_loss).toBeLessThan(0.1);
    const { directory } = eventsOf(events, 'checkpoint').findLast(({ kind }) => kind === 'model')!;
    expect(readdirSync(directory)).toEqual(
      expect.arrayContaining(['config.json', 'tokenizer.json', 'model.safetensors']),
    );
    const next = toySpec(
      { engine: 'onnx', modelDirectory: directory, hyperparameters: { n_epochs: 1, adapter: 'full' } },
      12,
    );
    const later = await collect(next);
    expect(eventsOf(later, 'step')[0]!.metrics.train_loss).toBeLessThan(0.1);
  });

  it('keeps the base model’s storage type', async () => {
    const model = await openModel(goldenModel('llama-bf16-sharded'));
    const { layOutState, viewsOf } = await import('../../src/training/state.ts');
    const { firstValues, stateLayoutOf } = await import('../../src/training/trainable.ts');
    const { writeModel } = await import('../../src/training/checkpoint.ts');
    const { generation } = await import('../../src/training/objectives/generation.ts');
    const tuning = { kind: 'full' } as const;
    const objective = generation(model);
    const trained = { model, tuning, objective, state: stateLayoutOf(model, tuning, objective) };
    const values = await firstValues({ ...trained, adapter: null, seed: 0 }, trained.state);
    const directory = join(toySpec().workDirectory, 'bf16');
    mkdirSync(join(directory, '..'), { recursive: true });
    await writeModel(directory, trained, values, '');
    const { tensors } = await readModelHeaders(directory);
    for (const [name, stored] of Object.entries(model.weights)) {
      expect(tensors[name]!.dtype, name).toBe(stored.dtype);
      expect(await readTensor(tensors[name]!)).toEqual(await readTensor(stored));
    }
    expect(Object.keys(viewsOf(values, layOutState(trained.state.slots)))).toHaveLength(
      Object.keys(tensors).length,
    );
  });
});

describe('refusals', () => {
  const failureOf = async (changes: Parameters<typeof toySpec>[0]) =>
    eventsOf(await collect(toySpec({ engine: 'onnx', ...changes })), 'failed')[0];

  it('nothing to train on', async () => {
    const { trainingFile } = toySpec();
    const untrained = {
      messages: [
        { role: 'user', content: 'a' },
        { role: 'assistant', content: 'b', weight: 0 },
      ],
    };
    writeFileSync(trainingFile, `${JSON.stringify(untrained)}\n`);
    expect(await failureOf({ trainingFile })).toEqual({
      type: 'failed',
      code: 'invalid_training_file',
      param: 'training_file',
      message: expect.stringContaining('nothing to train on'),
    });
  });

  it('a line that is no JSON, by its number', async () => {
    const { validationFile } = toySpec();
    writeLines(validationFile!, 1);
    writeFileSync(validationFile!, `${readFileSync(validationFile!, 'utf8')}{"messages"`);
    expect(await failureOf({ validationFile })).toMatchObject({
      code: 'invalid_validation_file',
      param: 'validation_file',
      message: expect.stringContaining('Line 2'),
    });
  });

  it('a hyperparameter out of its range', async () => {
    expect(await failureOf({ hyperparameters: { n_epochs: 51 } })).toMatchObject({
      code: 'invalid_hyperparameters',
      param: 'method.supervised.hyperparameters.n_epochs',
    });
  });

  it('a folder that is no model', async () => {
    expect(await failureOf({ modelDirectory: '/tmp' })).toMatchObject({
      code: 'invalid_model',
      param: 'model',
    });
  });

  it('more memory than it may take', async () => {
    expect(await failureOf({ memoryBudgetBytes: 1000 })).toMatchObject({
      code: 'insufficient_memory',
      param: 'method.supervised.hyperparameters.adapter',
      message: expect.stringMatching(/^Training \d+ parameters needs \d MB .* only 1 MB are available\./),
    });
  });

  it('a loss that is not a number', async () => {
    const model = await openModel(goldenModel('llama-tiny'));
    const layer = model.linearLayers[0]!;
    const directory = join(toySpec().workDirectory, 'broken');
    await writeAdapter(directory, {
      rank: 1,
      alpha: 1,
      dropout: 0,
      baseModel: 'llama-tiny',
      linearLayers: model.linearLayers,
      layers: {
        [layer.name]: {
          a: new Float32Array(layer.inFeatures).fill(Number.NaN),
          b: new Float32Array(layer.outFeatures),
        },
      },
    });
    expect(
      await failureOf({ adapterDirectory: directory, hyperparameters: { rank: undefined } }),
    ).toMatchObject({
      code: 'training_diverged',
      param: 'method.supervised.hyperparameters.learning_rate_multiplier',
      message: expect.stringContaining('step 1. Lower learning_rate_multiplier'),
    });
  });
});
