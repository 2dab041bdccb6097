// Whole runs on an encoder-decoder: they learn to answer, resume bit for bit, and leave what transformers and PEFT load.
import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readAdapter } from '../../src/formats/peft.ts';
import { readTensor } from '../../src/formats/safetensors.ts';
import { openModel } from '../../src/models/registry.ts';
import { dryRun } from '../../src/training/dry-run.ts';
import type { TrainerEvent, TrainSpec } from '../../src/training/protocol.ts';
import { collect, eventsOf, goldenModel, toySpec } from './toy-task.ts';

const t5 = (changes: Partial<TrainSpec> = {}, examples?: number): TrainSpec =>
  toySpec({ engine: 'onnx', modelDirectory: goldenModel('t5-tiny'), ...changes }, examples);

const metricsOf = (events: readonly TrainerEvent[]) => eventsOf(events, 'step').map(({ metrics }) => metrics);

const modelOf = (events: readonly TrainerEvent[]): string =>
  eventsOf(events, 'checkpoint').findLast(({ kind }) => kind === 'model')!.directory;

type Report = Record<string, { exact_match: number; loss: number }>;

describe('a run on T5', { timeout: 240_000 }, () => {
  it('learns to answer with an adapter that PEFT loads for sequence to sequence', async () => {
    const hyperparameters = { n_epochs: 20, batch_size: 6, rank: 8, alpha: 64, learning_rate: 0.02 };
    const events = await collect(t5({ hyperparameters, checkpointSeconds: 3600 }, 48));
    const metrics = metricsOf(events);
    expect(metrics[0]!.train_loss).toBeGreaterThan(4);
    expect(metrics.at(-1)!.train_loss).toBeLessThan(1.5);
    const report = eventsOf(events, 'evaluation')[0]!.report as Report;
    expect(report.base!.exact_match).toBe(0);
    expect(report.fine_tuned!.exact_match).toBeGreaterThan(0.5);
    // The loss of the evaluation, read one text at a time through the cache, is that of the packed validation.
    const best = Math.min(...metrics.flatMap(({ full_valid_loss: loss }) => loss ?? []));
    expect(Math.abs(report.fine_tuned!.loss - best)).toBeLessThan(1e-4);
    const directory = modelOf(events);
    const config = JSON.parse(readFileSync(join(directory, 'adapter_config.json'), 'utf8'));
    expect(config).toMatchObject({ task_type: 'SEQ_2_SEQ_LM', base_model_name_or_path: 't5-tiny' });
    const { linearLayers } = await openModel(goldenModel('t5-tiny'));
    const { layers } = await readAdapter(directory, linearLayers);
    expect(Object.keys(layers)).toHaveLength(linearLayers.length);
  });

  it('trains every weight, and leaves a folder that opens', async () => {
    const hyperparameters = { adapter: 'full' as const, n_epochs: 2, batch_size: 6, learning_rate: 0.005 };
    const events = await collect(t5({ hyperparameters, checkpointSeconds: 3600 }));
    const [base, trained] = [await openModel(goldenModel('t5-tiny')), await openModel(modelOf(events))];
    expect(Object.keys(trained.weights)).toEqual(Object.keys(base.weights));
    for (const [name, stored] of Object.entries(trained.weights))
      expect(await readTensor(stored), name).not.toEqual(await readTensor(base.weights[name]!));
    expect(metricsOf(events).at(-1)!.train_loss).toBeLessThan(metricsOf(events)[0]!.train_loss);
  });

  it('that goes on from any step gives the losses and the adapters of the unbroken one, bit for bit', async () => {
    const spec = t5({ hyperparameters: { n_epochs: 2, batch_size: 7, dropout: 0.1 } });
    const unbroken = await collect(spec);
    const checkpoints = eventsOf(unbroken, 'checkpoint').filter(({ kind }) => kind === 'resume');
    expect(checkpoints.length).toBe(metricsOf(unbroken).length);
    for (const { step, directory } of checkpoints.filter(({ step }) => step % 3 === 1)) {
      const again = await collect({
        ...t5({ hyperparameters: { n_epochs: 2, batch_size: 7, dropout: 0.1 } }),
        trainingFile: spec.trainingFile,
        validationFile: spec.validationFile,
        resumeDirectory: directory,
      });
      expect(metricsOf(again), `from step ${step}`).toEqual(metricsOf(unbroken).slice(step));
      const adapter = (events: readonly TrainerEvent[]) =>
        readFileSync(join(modelOf(events), 'adapter_model.safetensors'), 'base64');
      expect(adapter(again)).toBe(adapter(unbroken));
    }
  });

  it('is foretold by its dry run, broken lines too', async () => {
    const spec = t5();
    const named = { ...spec, trainingFileId: 'file-t', validationFileId: 'file-v', machines: [] };
    const report = await dryRun(named);
    const events = await collect(spec, event => (event.type === 'prepared' ? { type: 'cancel' } : null));
    const { totalSteps, trainedTokens, examples } = eventsOf(events, 'prepared')[0]!;
    expect(report).toMatchObject({ error: null, totalSteps, trainedTokens });
    expect(report.training.counts.count).toBe(examples);
    appendFileSync(spec.trainingFile, 'null\n{"messages": 5}\n{"prompt": 3}\nno JSON\n[]\n');
    const broken = await dryRun(named);
    expect(broken.error).toMatchObject({ code: 'invalid_training_file' });
    expect(broken.training.validation.errors.map(({ line }) => line)).toEqual([25, 26, 27, 28, 29]);
  });

  it('is refused for preferences, which compare continuations', async () => {
    const spec = t5({ method: { type: 'dpo', beta: 0.1 } as never });
    expect(eventsOf(await collect(spec), 'failed')).toEqual([
      expect.objectContaining({ message: 't5 is an encoder-decoder model: it cannot continue text' }),
    ]);
  });
});
