// Pre-trains anneal-tiny with this project's engine: `npm run pretrain:tiny [-- --out <folder>] [--work <folder>] [--steps <n>]`.
// Stopped at any time, it goes on where it was. The numbers are in recipe.ts, the text in corpus.ts.
import { existsSync, mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Tokenizer } from '@huggingface/tokenizers';
import type { Example } from '../data/examples.ts';
import { openEngine } from '../engine/engine.ts';
import { openModel } from '../models/registry.ts';
import type { MicroBatchPlan } from '../training/layout.ts';
import type { MicroBatchShape } from '../training/programs.ts';
import { firstValues, stateLayoutOf } from '../training/trainable.ts';
import { openTrainer, type Trainer } from '../training/trainer.ts';
import { readJson, writeFirstWeights, writeJsonFiles } from './model-folder.ts';
import { loadProgress, type Progress, saveProgress } from './progress-store.ts';
import { learningRateAt, type Recipe, recipe as standard } from './recipe.ts';
import { writeTrainedModel } from './release.ts';
import { makeTokenRows, type TokenRows } from './token-rows.ts';

const SAVE_EVERY_MS = 60_000;
const SAY_EVERY_STEPS = 25;

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const { values: options } = parseArgs({
  options: {
    out: { type: 'string', default: join(root, 'models', standard.name) },
    work: { type: 'string', default: join(root, 'build', 'pretraining') },
    steps: { type: 'string' },
  },
});
await pretrain(
  { ...standard, ...(options.steps && { steps: Number(options.steps) }) },
  options.work,
  options.out,
);

async function pretrain(recipe: Recipe, work: string, out: string): Promise<void> {
  const start = join(work, 'start');
  await prepareStart(start, recipe);
  const tokenizer = new Tokenizer(
    readJson(join(start, 'tokenizer.json')),
    readJson(join(start, 'tokenizer_config.json')),
  );
  say('writing the text');
  const rows = makeTokenRows(tokenizer, recipe.seed, recipe.steps * recipe.rows, recipe.rowLength);
  const engine = await openEngine({ engine: 'onnx', device: 'cpu', threads: availableParallelism() });
  const trainer = await openForPretraining(engine, start, recipe);
  say(`${recipe.steps} steps of ${recipe.rows} x ${recipe.rowLength} tokens on ${engine.name}`);
  const progress = await takeSteps(trainer, rows, recipe, work);
  const heldOut = makeTokenRows(tokenizer, recipe.heldOutSeed, recipe.heldOutRows, recipe.rowLength);
  const { loss, tokens, correct } = await trainer.measureLoss(
    Array.from({ length: heldOut.count }, (_, i) => heldOut.read(i)),
  );
  const figures = { ...progress, heldOutLoss: loss / tokens, heldOutAccuracy: correct / tokens };
  say(`loss on text never seen: ${figures.heldOutLoss.toFixed(3)}`);
  await writeTrainedModel({
    start,
    out,
    recipe,
    engine,
    state: trainer.state,
    layout: trainer.trained.state,
    figures,
  });
  await trainer.close();
  say(`wrote ${out}`);
}

/** Tokenizer, configuration and random weights; made once for a work folder. */
async function prepareStart(start: string, recipe: Recipe): Promise<void> {
  if (existsSync(join(start, 'model.safetensors'))) return;
  say('counting words and making the vocabulary');
  mkdirSync(start, { recursive: true });
  writeJsonFiles(start, recipe);
  await writeFirstWeights(start, recipe);
}

async function openForPretraining(
  engine: Awaited<ReturnType<typeof openEngine>>,
  start: string,
  recipe: Recipe,
): Promise<Trainer> {
  const model = await openModel(start);
  const tuning = { kind: 'full' } as const;
  const layout = stateLayoutOf(model, tuning);
  const parameters = await firstValues(model, tuning, layout, recipe.seed);
  return openTrainer({
    engine,
    trained: { model, tuning, state: layout },
    state: { parameters, m: new Float32Array(layout.size), v: new Float32Array(layout.size) },
    costs: { hiddenSize: recipe.hiddenSize },
    shapes: () => [shapeOf(recipe)],
    between: async () => {},
  });
}

function shapeOf({ rows, rowLength }: Recipe): MicroBatchShape {
  return { rows, length: rowLength };
}

async function takeSteps(trainer: Trainer, rows: TokenRows, recipe: Recipe, work: string): Promise<Progress> {
  const progress = loadProgress(work, trainer.state) ?? { step: 0, losses: [], seconds: 0 };
  if (progress.step > 0) say(`going on after step ${progress.step}`);
  const plan: MicroBatchPlan[] = [
    { shape: shapeOf(recipe), rows: Array.from({ length: recipe.rows }, (_, i) => [i]) },
  ];
  let saved = Date.now();
  while (progress.step < recipe.steps) {
    const began = Date.now();
    const step = progress.step + 1;
    const examples = Array.from(
      { length: recipe.rows },
      (_, i): Example => rows.read(progress.step * recipe.rows + i),
    );
    const { loss, tokens } = await trainer.takeStep(plan, examples, {
      step,
      learningRate: learningRateAt(step, recipe),
      weightDecay: recipe.weightDecay,
      maxGradNorm: recipe.maxGradNorm,
      seed: recipe.seed,
    });
    progress.step = step;
    progress.losses.push(loss / tokens);
    progress.seconds += (Date.now() - began) / 1000;
    if (step % SAY_EVERY_STEPS === 0 || step === recipe.steps) sayProgress(progress, recipe);
    if (Date.now() - saved > SAVE_EVERY_MS || step === recipe.steps) {
      saveProgress(work, trainer.state, progress);
      saved = Date.now();
    }
  }
  return progress;
}

function sayProgress({ step, losses, seconds }: Progress, recipe: Recipe): void {
  const recent = losses.slice(-SAY_EVERY_STEPS);
  const mean = recent.reduce((sum, loss) => sum + loss, 0) / recent.length;
  const speed = (step * recipe.rows * recipe.rowLength) / seconds;
  const minutes = ((seconds / step) * (recipe.steps - step)) / 60;
  say(
    `step ${step}/${recipe.steps}: loss ${mean.toFixed(3)}, ${speed.toFixed(0)} tokens/s, ${minutes.toFixed(1)} min to go`,
  );
}

function say(text: string): void {
  process.stderr.write(`pretrain: ${text}\n`);
}
