// Pre-training from an empty work folder to a finished model, resumable at any step. Where the folders are is the caller's.
import { existsSync, mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import type { Example } from '../data/examples.ts';
import { openEngine } from '../engine/engine.ts';
import type { Engine } from '../engine/program.ts';
import { openModel } from '../models/registry.ts';
import type { MicroBatchPlan } from '../training/layout.ts';
import type { MicroBatchShape } from '../training/programs.ts';
import { firstValues, stateLayoutOf } from '../training/trainable.ts';
import { openTrainer, type Trainer } from '../training/trainer.ts';
import { readJson, writeFirstWeights, writeJsonFiles } from './model-folder.ts';
import { loadProgress, type Progress, saveProgress } from './progress-store.ts';
import { learningRateAt, type Recipe } from './recipe.ts';
import { writeTrainedModel } from './release.ts';
import { makeTokenRows, type TokenRows } from './token-rows.ts';

const SAVE_EVERY_MS = 60_000;
const SAY_EVERY_STEPS = 25;

export interface Pretraining {
  readonly recipe: Recipe;
  /** Holds the start of the run and its saves; the run goes on from what is there. */
  readonly work: string;
  /** Where the finished model goes. */
  readonly out: string;
  say(text: string): void;
  /** Stops after a step, which is saved. */
  readonly signal?: AbortSignal;
}

/** Returns false when it was stopped before the end. */
export async function pretrain(run: Pretraining): Promise<boolean> {
  const { recipe, work, out, say } = run;
  const start = join(work, 'start');
  await prepareStart(start, run);
  const tokenizer = new Tokenizer(
    readJson(join(start, 'tokenizer.json')),
    readJson(join(start, 'tokenizer_config.json')),
  );
  say('writing the text');
  const rows = makeTokenRows(tokenizer, recipe.seed, recipe.steps * recipe.rows, recipe.rowLength);
  const engine = await openEngine({ engine: 'onnx', device: 'cpu', threads: availableParallelism() });
  const trainer = await openForPretraining(engine, start, recipe);
  say(`${recipe.steps} steps of ${recipe.rows} x ${recipe.rowLength} tokens on ${engine.name}`);
  const progress = await takeSteps(trainer, rows, run);
  if (progress.step < recipe.steps) {
    await trainer.close();
    return false;
  }
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
  return true;
}

/** Tokenizer, configuration and random weights; made once for a work folder. */
async function prepareStart(start: string, { recipe, say }: Pretraining): Promise<void> {
  if (existsSync(join(start, 'model.safetensors'))) return;
  say('counting words and making the vocabulary');
  mkdirSync(start, { recursive: true });
  writeJsonFiles(start, recipe);
  await writeFirstWeights(start, recipe);
}

async function openForPretraining(engine: Engine, start: string, recipe: Recipe): Promise<Trainer> {
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

async function takeSteps(trainer: Trainer, rows: TokenRows, run: Pretraining): Promise<Progress> {
  const { recipe, work, say, signal } = run;
  const progress = loadProgress(work, trainer.state) ?? { step: 0, losses: [], seconds: 0 };
  if (progress.step > 0) say(`going on after step ${progress.step}`);
  const plan: MicroBatchPlan[] = [
    { shape: shapeOf(recipe), rows: Array.from({ length: recipe.rows }, (_, i) => [i]) },
  ];
  let saved = Date.now();
  while (progress.step < recipe.steps && !signal?.aborted) {
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
    if (step % SAY_EVERY_STEPS === 0 || step === recipe.steps) say(describeProgress(progress, recipe));
    if (Date.now() - saved > SAVE_EVERY_MS || step === recipe.steps || signal?.aborted) {
      saveProgress(work, trainer.state, progress);
      saved = Date.now();
    }
  }
  return progress;
}

function describeProgress({ step, losses, seconds }: Progress, recipe: Recipe): string {
  const recent = losses.slice(-SAY_EVERY_STEPS);
  const mean = recent.reduce((sum, loss) => sum + loss, 0) / recent.length;
  const speed = (step * recipe.rows * recipe.rowLength) / seconds;
  const minutes = ((seconds / step) * (recipe.steps - step)) / 60;
  return `step ${step}/${recipe.steps}: loss ${mean.toFixed(3)}, ${speed.toFixed(0)} tokens/s, ${minutes.toFixed(1)} min to go`;
}
