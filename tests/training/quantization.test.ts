// Adapters trained on quantised weights: they learn what those on the full weights learn, go on bit for bit, and are told apart.
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import type { TrainerEvent, TrainSpec } from '../../src/training/protocol.ts';
import { collect, eventsOf, toySpec } from './toy-task.ts';

const ROOT = join(import.meta.dirname, '../..');
const EXAMPLES = 200;
/** Losses that are compared: the mean of the last steps, each of another example. */
const COMPARED = 50;
/** How far the loss may be off, as a part of it. */
const KINDS = [
  ['int16', 1e-4],
  ['int8', 0.01],
  ['int4', 0.01],
  ['nf4', 0.01],
] as const;
type Quantization = (typeof KINDS)[number][0] | 'none';

const cacheDirectory = mkdtempSync(join(tmpdir(), 'anneal-quantized-'));
const trainingFile = join(cacheDirectory, 'training.jsonl');
const lines = readFileSync(join(ROOT, 'samples/support-train.jsonl'), 'utf8').split('\n');
writeFileSync(trainingFile, `${lines.slice(0, EXAMPLES).join('\n')}\n`);

/**
 * 200 steps of one example each, on the model that comes with Anneal. At its default rate, ten times this, a run of few examples
 * depends on rounding and on the seed by several percent, which would hide what is asked here.
 */
const specWith = (quantization: Quantization, changes: Partial<TrainSpec> = {}): TrainSpec => ({
  ...toySpec({
    engine: 'onnx',
    threads: 2,
    modelDirectory: join(ROOT, 'models/anneal-tiny'),
    cacheDirectory,
    checkpointSeconds: 1e6,
    hyperparameters: { n_epochs: 1, batch_size: 1, rank: 8, learning_rate: 2e-4, quantization },
    ...changes,
  }),
  trainingFile,
  validationFile: null,
});

const lossesOf = (events: readonly TrainerEvent[]) =>
  eventsOf(events, 'step').map(({ metrics }) => metrics.train_loss);

const lossOf = (events: readonly TrainerEvent[]) =>
  lossesOf(events)
    .slice(-COMPARED)
    .reduce((sum, loss) => sum + loss, 0) / COMPARED;

describe('after 200 steps', { timeout: 300_000 }, () => {
  let full: TrainerEvent[];
  beforeAll(async () => {
    full = await collect(specWith('none'));
  }, 300_000);

  test.each(KINDS)('the loss on %s is within %d of that on the full weights', async (quantization, most) => {
    const events = await collect(specWith(quantization));
    expect(lossesOf(events)).toHaveLength(200);
    expect(lossOf(full)).toBeLessThan(0.7 * lossesOf(full)[0]!);
    expect(Math.abs(lossOf(events) / lossOf(full) - 1)).toBeLessThan(most);
    expect(lossesOf(events)).not.toEqual(lossesOf(full));
    const { manifest } = eventsOf(events, 'finished')[0]!;
    expect(manifest.hyperparameters).toMatchObject({ quantization });
  });
});

test('a run on int8 that is cut goes on with the same bits, its copy of the weights made anew', {
  timeout: 120_000,
}, async () => {
  const short = { hyperparameters: { n_epochs: 1, batch_size: 32, quantization: 'int8' as const } };
  const unbroken = await collect(specWith('int8', { ...short, checkpointSeconds: 0 }));
  const cut = eventsOf(unbroken, 'checkpoint').find(({ kind, step }) => kind === 'resume' && step === 3)!;
  const elsewhere = mkdtempSync(join(tmpdir(), 'anneal-quantized-'));
  const spec = specWith('int8', { ...short, resumeDirectory: cut.directory, cacheDirectory: elsewhere });
  expect(lossesOf(await collect(spec))).toEqual(lossesOf(unbroken).slice(3));
});
