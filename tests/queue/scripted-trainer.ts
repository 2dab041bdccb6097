// A small trainer that speaks the real trainer's protocol: it fits one number by gradient descent, slowly, and can be told
// to die. Its script stands as JSON in the first message of the training file.
import { appendFileSync, readFileSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { StepMetrics, TrainerCommand, TrainerEvent, TrainSpec } from '../../src/training/protocol.ts';

export interface Script {
  steps: number;
  stepMs: number;
  stepsPerEpoch: number;
  /** A checkpoint for resuming after every so many steps. */
  resumeEvery: number;
  /** `full_valid_loss` of each epoch; without them there is no validation. */
  validation?: number[];
  /** Dies in these starts (the first is 1) after a step. Starts are counted in `diary`. */
  deaths?: Record<number, { afterStep: number; how: 'SIGKILL' | 'exit' | 'silence' }>;
  /** Gets a line for every start and every step. */
  diary?: string;
  fails?: { code: string; param: string | null; message: string };
  /** Bytes of a model's weights. */
  modelBytes?: number;
}

const spec: TrainSpec = JSON.parse(readFileSync(process.argv[2]!, 'utf8'));
const script: Script = JSON.parse(
  JSON.parse(readFileSync(spec.trainingFile, 'utf8').split('\n')[0]!).messages[0].content,
);

let command: TrainerCommand | null = null;
process.on('message', (message: TrainerCommand) => {
  command ??= message;
});
process.on('disconnect', () => process.exit(1));

function send(event: TrainerEvent): Promise<void> {
  return new Promise((done, fail) =>
    process.send!(event, undefined, undefined, error => (error ? fail(error) : done())),
  );
}

function note(line: string): void {
  if (script.diary) appendFileSync(script.diary, `${process.pid} ${line}\n`);
}

function countStarts(): number {
  if (!script.diary) return 1;
  return readFileSync(script.diary, 'utf8')
    .split('\n')
    .filter(line => line.endsWith(' start')).length;
}

interface State {
  step: number;
  weight: number;
  best: { step: number; loss: number } | null;
}

async function writeFolder(kind: 'resume' | 'model', state: State): Promise<string> {
  const directory = join(spec.workDirectory, `${kind}-${state.step}`);
  await mkdir(directory, { recursive: true });
  if (kind === 'resume') await writeFile(join(directory, 'state.json'), JSON.stringify(state));
  else {
    await writeFile(join(directory, 'adapter_config.json'), '{}');
    const weights = Buffer.alloc(script.modelBytes ?? 1000, `${state.weight} `);
    await writeFile(join(directory, 'adapter_model.safetensors'), weights);
  }
  return directory;
}

function takeStep(state: State): StepMetrics {
  const gradient = 2 * (state.weight - Math.PI);
  const loss = (state.weight - Math.PI) ** 2;
  state.step += 1;
  state.weight -= 0.1 * gradient * (1 + Math.sin(state.step + spec.seed) / 2);
  const epoch = state.step / script.stepsPerEpoch;
  const full = Number.isInteger(epoch) ? script.validation?.[epoch - 1] : undefined;
  return {
    step: state.step,
    train_loss: loss,
    train_mean_token_accuracy: 1 / (1 + loss),
    ...(full !== undefined && { full_valid_loss: full }),
  };
}

async function dieIfTold(start: number, step: number): Promise<void> {
  const death = script.deaths?.[start];
  if (death?.afterStep !== step) return;
  if (death.how === 'SIGKILL') process.kill(process.pid, 'SIGKILL');
  if (death.how === 'exit') process.exit(3);
  process.exit(0);
}

async function say(state: State, metrics: StepMetrics, seconds: number): Promise<void> {
  await send({
    type: 'step',
    metrics,
    totalSteps: script.steps,
    epoch: Math.ceil(state.step / script.stepsPerEpoch),
    learningRate: 0.1,
    gradientNorm: 1,
    trainedTokens: state.step * 10,
    seconds,
    flops: 1e6,
    remainingSeconds: (script.steps - state.step) * seconds,
  });
}

async function saveModel(state: State, metrics: StepMetrics): Promise<void> {
  const loss = metrics.full_valid_loss ?? -state.step;
  if (!state.best || loss < state.best.loss) state.best = { step: state.step, loss };
  const epoch = state.step / script.stepsPerEpoch;
  const directory = await writeFolder('model', state);
  await send({ type: 'checkpoint', kind: 'model', step: state.step, epoch, directory, metrics });
}

async function saveResume(state: State, metrics: StepMetrics): Promise<void> {
  const epoch = state.step / script.stepsPerEpoch;
  const directory = await writeFolder('resume', state);
  await send({ type: 'checkpoint', kind: 'resume', step: state.step, epoch, directory, metrics });
}

async function start(): Promise<State> {
  if (!spec.resumeDirectory) return { step: 0, weight: spec.seed, best: null };
  return JSON.parse(await readFile(join(spec.resumeDirectory, 'state.json'), 'utf8'));
}

async function prepare(): Promise<void> {
  await send({
    type: 'prepared',
    hyperparameters: {
      n_epochs: script.steps / script.stepsPerEpoch,
      batch_size: 1,
      max_length: 64,
      adapter: 'lora',
    } as never,
    totalSteps: script.steps,
    examples: 10,
    validationExamples: 0,
    truncatedExamples: 2,
    droppedExamples: 1,
    equalAnswers: { training: { count: 3, lines: [2, 5, 7] }, validation: null },
    trainedTokens: script.steps * 10,
    layout: { engine: 'onnx', device: 'cpu', threads: 1 },
  });
}

async function main(): Promise<void> {
  note('start');
  const starts = countStarts();
  const state = await start();
  if (script.fails) return send({ type: 'failed', ...script.fails });
  await prepare();
  await dieIfTold(starts, 0);
  let metrics: StepMetrics = { step: state.step, train_loss: 0, train_mean_token_accuracy: 0 };
  while (state.step < script.steps) {
    await sleep(script.stepMs);
    if (command) {
      if (command.type === 'pause') await saveResume(state, metrics);
      return send({ type: 'stopped', reason: command.type, step: state.step });
    }
    metrics = takeStep(state);
    note(`step ${state.step}`);
    await say(state, metrics, script.stepMs / 1000);
    if (state.step % script.stepsPerEpoch === 0) await saveModel(state, metrics);
    if (state.step % script.resumeEvery === 0) await saveResume(state, metrics);
    await dieIfTold(starts, state.step);
  }
  await writeFile(join(spec.workDirectory, 'evaluation.json'), '{"accuracy": 1}\n');
  await send({ type: 'evaluation', report: { accuracy: 1 } });
  await send({
    type: 'finished',
    bestStep: state.best!.step,
    trainedTokens: state.step * 10,
    manifest: { seed: spec.seed },
  });
}

await main();
process.exit(0);
