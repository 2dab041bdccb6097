// Pre-training from an empty work folder to a finished model, resumable at any step.
import { existsSync, mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import { openEngine } from '../engine/engine.ts';
import type { Engine } from '../engine/program.ts';
import { openModel } from '../models/registry.ts';
import type { MicroBatchPlan } from '../training/layout.ts';
import { generation } from '../training/objectives/generation.ts';
import type { MicroBatchShape } from '../training/programs.ts';
import { firstValues, stateLayoutOf } from '../training/trainable.ts';
import { openTrainer, type Trainer } from '../training/trainer.ts';
import { type Batch, joinedBatches, separateBatches } from './batches.ts';
import { readJson, writeFirstWeights, writeJsonFiles } from './model-folder.ts';
import { loadProgress, type Progress, saveProgress } from './progress-store.ts';
import { learningRateAt, type Recipe, totalSteps } from './recipe.ts';
import { writeTrainedModel } from './release.ts';

const SAVE_EVERY_MS = 60_000;
const SAY_EVERY_STEPS = 25;

export interface Pretraining {
  readonly recipe: Recipe;
  /** Contains the initial model and the saves; the run resumes from what is there. */
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
  const engine = await openEngine({ engine: 'onnx', device: 'cpu', threads: availableParallelism() });
  const { trainer, progress } = await openForPretraining(engine, start, run);
  say(`after step ${progress.step}; writing the text`);
  const batches = makeBatches(tokenizer, recipe, progress.step);
  say(`${totalSteps(recipe)} steps of ${recipe.rows} x ${recipe.rowLength} tokens on ${engine.name}`);
  await takeSteps(trainer, progress, batches, run);
  if (progress.step < totalSteps(recipe)) {
    await trainer.close();
    return false;
  }
  const unseen = {
    tokenizer,
    seed: recipe.heldOutSeed,
    count: recipe.heldOutBatches,
    ...shapeInTokens(recipe),
  };
  const { loss, weight, score, count } = await trainer.measureLoss(
    separateBatches(unseen).flatMap(({ examples }) => examples),
  );
  const figures = { ...progress, heldOutLoss: loss / weight, heldOutAccuracy: score / count };
  say(`loss on text never seen: ${figures.heldOutLoss.toFixed(3)}`);
  await writeTrainedModel({
    start,
    out,
    recipe,
    engine,
    state: await trainer.readState(),
    layout: trainer.trained.state,
    figures,
  });
  await trainer.close();
  say(`wrote ${out}`);
  return true;
}

/** Makes tokenizer, configuration and random weights, once per work folder. */
async function prepareStart(start: string, { recipe, say }: Pretraining): Promise<void> {
  if (existsSync(join(start, 'model.safetensors'))) return;
  say('counting words and making the vocabulary');
  mkdirSync(start, { recursive: true });
  writeJsonFiles(start, recipe);
  await writeFirstWeights(start, recipe);
}

/** Opens the trainer at the last save, or at the start. */
async function openForPretraining(
  engine: Engine,
  start: string,
  { recipe, work }: Pretraining,
): Promise<{ trainer: Trainer; progress: Progress }> {
  const model = await openModel(start);
  const tuning = { kind: 'full' } as const;
  const objective = generation(model);
  const layout = stateLayoutOf(model, tuning, objective);
  const parameters = await firstValues(
    { model, tuning, objective, adapter: null, seed: recipe.seed },
    layout,
  );
  const state = { parameters, m: new Float32Array(layout.size), v: new Float32Array(layout.size) };
  const progress = loadProgress(work, state) ?? { step: 0, losses: [], seconds: 0 };
  const trainer = await openTrainer({
    engine,
    trained: { model, tuning, objective, state: layout },
    state,
    costs: { hiddenSize: recipe.hiddenSize },
    shapes: () => [shapeOf(recipe)],
    between: async () => {},
  });
  return { trainer, progress };
}

function shapeOf({ rows, rowLength }: Recipe): MicroBatchShape {
  return { rows, length: rowLength };
}

const shapeInTokens = ({ rows, rowLength }: Recipe) => ({ rows, rowLength });

/** Returns the batch of a step, from 0. The batches of a phase that is over are not made. */
function makeBatches(tokenizer: Tokenizer, recipe: Recipe, stepsTaken: number): (step: number) => Batch {
  const { seed, joinedSteps, separateSteps } = recipe;
  const common = { tokenizer, ...shapeInTokens(recipe) };
  const joined = stepsTaken < joinedSteps ? joinedBatches({ ...common, seed, count: joinedSteps }) : [];
  const separate = separateBatches({ ...common, seed: seed + 1, count: separateSteps });
  return step => (step < joinedSteps ? joined[step]! : separate[step - joinedSteps]!);
}

async function takeSteps(
  trainer: Trainer,
  progress: Progress,
  batchAt: (step: number) => Batch,
  { recipe, work, say, signal }: Pretraining,
): Promise<void> {
  const last = totalSteps(recipe);
  let saved = Date.now();
  while (progress.step < last && !signal?.aborted) {
    const began = Date.now();
    const { examples, rows } = batchAt(progress.step);
    const plan: MicroBatchPlan[] = [{ shape: shapeOf(recipe), rows }];
    const step = progress.step + 1;
    const { loss, weight } = await trainer.takeStep(plan, examples, {
      step,
      learningRate: learningRateAt(step, recipe),
      weightDecay: recipe.weightDecay,
      maxGradNorm: recipe.maxGradNorm,
      seed: recipe.seed,
    });
    progress.step = step;
    progress.losses.push(loss / weight);
    progress.seconds += (Date.now() - began) / 1000;
    if (step % SAY_EVERY_STEPS === 0 || step === last) say(describeProgress(progress, recipe));
    if (Date.now() - saved > SAVE_EVERY_MS || step === last || signal?.aborted) {
      saveProgress(work, await trainer.readState(), progress);
      saved = Date.now();
    }
  }
}

function describeProgress({ step, losses, seconds }: Progress, recipe: Recipe): string {
  const recent = losses.slice(-SAY_EVERY_STEPS);
  const mean = recent.reduce((sum, loss) => sum + loss, 0) / recent.length;
  const speed = (step * recipe.rows * recipe.rowLength) / seconds;
  const minutes = ((seconds / step) * (totalSteps(recipe) - step)) / 60;
  return `step ${step}/${totalSteps(recipe)}: loss ${mean.toFixed(3)}, ${speed.toFixed(0)} tokens/s, ${minutes.toFixed(1)} min to go`;
}
