// Whole runs that learn classes and numbers: cut and gone on, from one to the next, dry, and read back by transformers and PEFT.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { tokensOf } from '../../src/data/example-form.ts';
import { classificationForm } from '../../src/data/labelled.ts';
import { loadTokenizer } from '../../src/data/tokenizer.ts';
import { openEngine } from '../../src/engine/engine.ts';
import { openModel } from '../../src/models/registry.ts';
import { dryRun } from '../../src/training/dry-run.ts';
import { planBatch } from '../../src/training/layout.ts';
import { openObjective } from '../../src/training/objectives.ts';
import type { TrainSpec } from '../../src/training/protocol.ts';
import { firstValues, stateLayoutOf } from '../../src/training/trainable.ts';
import { openTrainer } from '../../src/training/trainer.ts';
import { collect, eventsOf, goldenModel, toySpec } from './toy-task.ts';

const LABELS = ['red', 'green', 'blue'];
const folder = mkdtempSync(join(tmpdir(), 'anneal-text-outputs-'));

function writeFileOf(name: string, count: number, make: (index: number) => object): string {
  const file = join(folder, name);
  writeFileSync(file, Array.from({ length: count }, (_, i) => `${JSON.stringify(make(i))}\n`).join(''));
  return file;
}

const text = (i: number) => `${LABELS[i % 3]![0]} ${'abcdefgh'.slice(0, i % 7)}`;
const labelled = (i: number) => ({ input: text(i), label: LABELS[i % 3]! });
const several = (i: number) => ({ input: text(i), labels: i % 3 === 0 ? [] : LABELS.slice(0, i % 3) });
const numbered = (i: number) => ({ input: text(i), value: (i % 3) - 1 });

const CAUSAL = goldenModel('llama-tiny');
const [ENCODER_DECODER, TRANSLATOR] = [goldenModel('t5-tiny'), goldenModel('marian-tiny')];

const TASKS = {
  classes: { method: { type: 'classification' }, make: labelled, modelDirectory: CAUSAL },
  'classes of an encoder-decoder': {
    method: { type: 'classification' },
    make: labelled,
    modelDirectory: ENCODER_DECODER,
  },
  'classes of a translator': {
    method: { type: 'classification' },
    make: labelled,
    modelDirectory: TRANSLATOR,
  },
  'several classes': {
    method: { type: 'classification', class_weights: 'balanced' },
    make: several,
    modelDirectory: CAUSAL,
  },
  numbers: { method: { type: 'regression' }, make: numbered, modelDirectory: CAUSAL },
} as const;

function specOf(task: keyof typeof TASKS, changes: Partial<TrainSpec> = {}): TrainSpec {
  const { method, make, modelDirectory } = TASKS[task];
  return toySpec({
    engine: 'onnx',
    method,
    modelDirectory,
    trainingFile: writeFileOf(`${task}-training.jsonl`, 24, make),
    validationFile: writeFileOf(`${task}-validation.jsonl`, 6, i => make(i + 100)),
    ...changes,
  } as Partial<TrainSpec>);
}

const metricsOf = (events: Awaited<ReturnType<typeof collect>>) =>
  eventsOf(events, 'step').map(({ metrics }) => metrics);
const lastModel = (events: Awaited<ReturnType<typeof collect>>) =>
  eventsOf(events, 'checkpoint').findLast(({ kind }) => kind === 'model')!.directory;

describe.each(Object.keys(TASKS) as (keyof typeof TASKS)[])('%s', { timeout: 120_000 }, task => {
  const learning = { n_epochs: 12, learning_rate: 0.01 };

  it('are learnt, measured and reported', async () => {
    const spec = specOf(task, { hyperparameters: learning });
    const events = await collect(spec);
    const metrics = metricsOf(events);
    expect(metrics.at(-1)!.train_loss).toBeLessThan(0.3 * metrics[0]!.train_loss);
    const { report } = eventsOf(events, 'evaluation')[0]!;
    const measure = task === 'numbers' ? 'mean_absolute_error' : 'accuracy';
    const {
      fine_tuned: tuned,
      baseline,
      base,
      validation,
    } = report as Record<string, Record<string, number>>;
    expect(base).toBeNull();
    const better = tuned![measure]! - baseline![measure]!;
    expect(task === 'numbers' ? -better : better).toBeGreaterThan(0.1);
    // The evaluation reads the folder that was saved; the loop measured what it had in memory.
    const loss = task === 'numbers' ? tuned!.root_mean_squared_error! ** 2 : tuned!.loss!;
    const weighted = task === 'several classes';
    if (!weighted) expect(Math.abs(loss - validation!.loss!)).toBeLessThan(1e-4 * Math.max(1, loss));
    const [header, first] = readFileSync(join(spec.workDirectory, 'results.csv'), 'utf8').split('\n');
    expect(header).toBe(`step,train_loss,train_${measure},valid_loss,valid_${measure}`);
    expect(first!.split(',').every(cell => cell !== '')).toBe(true);
  });

  it('are learnt from the last checkpoint on as without a break, bit for bit', async () => {
    const whole = metricsOf(await collect(specOf(task)));
    const spec = specOf(task);
    const before = await collect(spec, event =>
      event.type === 'step' && event.metrics.step === 3 ? { type: 'pause' } : null,
    );
    const { directory } = eventsOf(before, 'checkpoint').findLast(({ kind }) => kind === 'resume')!;
    const after = await collect({ ...spec, resumeDirectory: directory });
    expect([...metricsOf(before), ...metricsOf(after)]).toEqual(whole);
  });

  it('are announced by a dry run as the run then says', async () => {
    const spec = specOf(task);
    const { method } = spec;
    const report = await dryRun({
      ...spec,
      trainingFileId: 'file-t',
      validationFileId: 'file-v',
      machines: [],
    });
    const events = await collect(spec, event => (event.type === 'prepared' ? { type: 'cancel' } : null));
    const prepared = eventsOf(events, 'prepared')[0]!;
    expect(report).toMatchObject({
      error: null,
      hyperparameters: prepared.hyperparameters,
      totalSteps: prepared.totalSteps,
      trainedTokens: prepared.trainedTokens,
      training: { counts: { count: 24 }, control: { examplesWithoutTrainedEos: 0 } },
    });
    const answers = report.training.answers?.map(({ answer }) => answer);
    expect(answers).toEqual(
      method.type === 'classification' && task !== 'several classes' ? ['blue', 'green', 'red'] : undefined,
    );
  });
});

describe('a further run', { timeout: 120_000 }, () => {
  const learning = { n_epochs: 12, learning_rate: 0.01 };
  const firstLoss = async (spec: TrainSpec) => metricsOf(await collect(spec))[0]!;

  it.each(['lora', 'full'] as const)(
    'goes on with the head of a model of the same labels: %s',
    async adapter => {
      const events = await collect(
        specOf('classes', {
          hyperparameters: { ...learning, adapter, learning_rate: adapter === 'full' ? 0.003 : 0.01 },
        }),
      );
      const folder = lastModel(events);
      const { hyperparameters } = specOf('classes', { hyperparameters: { n_epochs: 1, adapter } });
      const from = adapter === 'lora' ? { adapterDirectory: folder } : { modelDirectory: folder };
      const further = await collect(specOf('classes', { ...from, hyperparameters }));
      const [first] = metricsOf(further);
      expect(first!.train_loss).toBeLessThan(0.2);
      expect(first!.train_accuracy).toBe(1);
      const { base } = eventsOf(further, 'evaluation')[0]!.report;
      const { fine_tuned: before } = eventsOf(events, 'evaluation')[0]!.report;
      expect(base).toEqual(before);
      const others = writeFileOf('others.jsonl', 24, i => ({
        input: text(i),
        label: ['x', 'y', 'z'][i % 3]!,
      }));
      const fresh = await firstLoss(
        specOf('classes', { ...from, trainingFile: others, validationFile: null, hyperparameters }),
      );
      expect(fresh.train_loss).toBeGreaterThan(0.8);
    },
  );

  it('of another method than the model was made for is refused where it needs its tokens', async () => {
    const events = await collect(specOf('classes', { hyperparameters: { n_epochs: 1 } }));
    const spec = toySpec({ engine: 'onnx', adapterDirectory: lastModel(events) });
    expect(eventsOf(await collect(spec), 'failed')[0]).toMatchObject({
      code: 'invalid_model',
      param: 'model',
      message: expect.stringContaining('modules_to_save'),
    });
  });
});

it.each(['llama-tiny', 'gpt2-tiny'])(
  'texts packed into rows give the same step as one at a time: %s',
  async name => {
    const tokenizer = await loadTokenizer(goldenModel(name));
    const model = await openModel(goldenModel(name), 'sequence');
    const trainingFile = writeFileOf('packed.jsonl', 12, labelled);
    const objective = await openObjective({
      method: { type: 'classification', class_weights: { red: 3 } },
      hyperparameters: {},
      model,
      tokenizer,
      adapter: null,
      adapterDirectory: null,
      trainingFile,
    });
    const form = classificationForm({ multiple: false, labels: ['blue', 'green', 'red'] });
    const examples = Array.from({ length: 8 }, (_, i) => form.examples(labelled(i), tokenizer)[0]!);
    const stepWith = async (shapes: { rows: number; length: number }[]) => {
      const tuning = { kind: 'full' } as const;
      const layout = stateLayoutOf(model, tuning, objective);
      const parameters = await firstValues({ model, tuning, objective, adapter: null, seed: 1 }, layout);
      const costs = { hiddenSize: model.shape.hiddenSize };
      const trainer = await openTrainer({
        engine: await openEngine({ engine: 'onnx', device: 'cpu', threads: 1 }),
        trained: { model, tuning, objective, state: layout },
        state: { parameters, m: new Float32Array(layout.size), v: new Float32Array(layout.size) },
        costs,
        shapes: () => shapes,
        between: async () => {},
      });
      const options = { step: 1, learningRate: 1e-3, weightDecay: 0, maxGradNorm: 1, seed: 1 };
      const result = await trainer.takeStep(
        planBatch(examples.map(tokensOf), shapes, costs),
        examples,
        options,
      );
      await trainer.close();
      return result;
    };
    const alone = await stepWith([{ rows: 1, length: Math.max(...examples.map(tokensOf)) }]);
    const packed = await stepWith([{ rows: 2, length: 64 }]);
    expect(packed.count).toBe(8);
    expect([packed.count, packed.score, packed.weight]).toEqual([alone.count, alone.score, alone.weight]);
    expect(Math.abs(packed.loss / alone.loss - 1)).toBeLessThan(1e-5);
    expect(Math.abs(packed.gradientNorm / alone.gradientNorm - 1)).toBeLessThan(1e-4);
  },
);

/** A Python with `peft`, for checking what transformers and PEFT read. */
const python = process.env.ANNEAL_TEST_PYTHON;

it.skipIf(!python).each([
  ['classes', 'lora'],
  ['classes', 'full'],
  ['classes of an encoder-decoder', 'lora'],
  ['classes of an encoder-decoder', 'full'],
] as const)(
  'what a run writes is read by transformers and PEFT, with the same scores: %s, %s',
  { timeout: 240_000 },
  async (task, adapter) => {
    const spec = specOf(task, { hyperparameters: { n_epochs: 3, adapter, learning_rate: 0.005 } });
    const events = await collect(spec);
    const { examples } = eventsOf(events, 'evaluation')[0]!.report as {
      examples: { input: string; scores: Record<string, number> }[];
    };
    const tokenizer = await loadTokenizer(spec.modelDirectory);
    const tokens = examples.map(({ input }) => tokenizer.encodeWhole(input));
    const best = eventsOf(events, 'finished')[0]!.bestStep;
    const made = eventsOf(events, 'checkpoint').find(({ kind, step }) => kind === 'model' && step === best)!;
    const script = join(import.meta.dirname, '../golden/sequence_scores.py');
    const folders = adapter === 'full' ? [made.directory] : [spec.modelDirectory, made.directory];
    const out = execFileSync(python!, [script, JSON.stringify(tokens), ...folders], { encoding: 'utf8' });
    const scores: number[][] = JSON.parse(out.trim().split('\n').at(-1)!);
    scores.forEach((row, i) => {
      const expected = Object.values(examples[i]!.scores);
      row.forEach((score, j) => {
        expect(Math.abs(score - expected[j]!), `text ${i}`).toBeLessThan(1e-4);
      });
    });
  },
);
