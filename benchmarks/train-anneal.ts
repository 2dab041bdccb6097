// Trains a benchmark's model on one of this project's engines for some steps and prints what it took as JSON. Run by train.ts.
import { performance } from 'node:perf_hooks';
import { type EngineName, openEngine } from '../src/engine/engine.ts';
import { onnxEngine } from '../src/engine/onnx.ts';
import { PASSES } from '../src/engine/passes.ts';
import type { Engine, HostArrays } from '../src/engine/program.ts';
import { openModel } from '../src/models/registry.ts';
import { generation } from '../src/training/objectives/generation.ts';
import { openAdamW } from '../src/training/optimizer.ts';
import { AFTER, BEFORE, gradientProgram, PARAMETER } from '../src/training/programs.ts';
import type { ResolvedHyperparameters } from '../src/training/protocol.ts';
import { viewsOf } from '../src/training/state.ts';
import { firstValues, stateLayoutOf, tuningOf } from '../src/training/trainable.ts';
import { type ShapeName, TARGETS } from './train-model.ts';

const [engineName, shapeName, directory, steps, length, threads, profile] = process.argv.slice(2) as string[];

const engine: Engine = profile
  ? onnxEngine({ provider: 'cpu', threads: Number(threads), passes: PASSES, profile })
  : await openEngine({ engine: engineName as EngineName, device: 'cpu', threads: Number(threads) });
const model = await openModel(directory!);
const chosen = {
  adapter: 'lora',
  rank: 8,
  alpha: 16,
  dropout: 0,
  target_modules: TARGETS[shapeName as ShapeName],
};
const tuning = tuningOf(model, chosen as ResolvedHyperparameters);
const objective = generation(model);
const state = stateLayoutOf(model, tuning, objective);
const tokens = Number(length);
const started = performance.now();
const program = await engine.compile(
  gradientProgram({ model, tuning, objective, state }, { rows: 1, length: tokens }),
);
const compileSeconds = (performance.now() - started) / 1000;
const optimizer = await openAdamW(engine, state);
const parameters = await firstValues({ model, tuning, objective, adapter: null, seed: 1 }, state);
const moments = { parameters, m: new Float32Array(state.size), v: new Float32Array(state.size) };
const zeros = new Float32Array(state.size);
const gradients = new Float32Array(state.size);

/** Token i of every batch is the same odd walk over the vocabulary, for every contender. */
const walk = Int32Array.from({ length: tokens + 1 }, (_, i) => (i * 7919) % model.shape.vocabSize);
const inputs: HostArrays = {
  tokens: walk.slice(0, tokens),
  targets: walk.slice(1),
  positions: Int32Array.from({ length: tokens }, (_, i) => i),
  segments: new Int32Array(tokens),
  ...viewsOf(parameters, state, PARAMETER),
  ...viewsOf(zeros, state, BEFORE),
};
const into = viewsOf(gradients, state, AFTER);
const cpuOf = ({ user, system }: NodeJS.CpuUsage) => (user + system) / 1e6;
const seconds: number[] = [];
const cpuSeconds: number[] = [];
const losses: number[] = [];
for (let step = 1; step <= Number(steps); step++) {
  const start = performance.now();
  const cpu = process.cpuUsage();
  const { lossSum } = await program.run(inputs, into);
  const options = { step, learningRate: 1e-3, weightDecay: 0.01, maxGradNorm: 1, weight: tokens };
  await optimizer.update(moments, gradients, options);
  seconds.push((performance.now() - start) / 1000);
  cpuSeconds.push(cpuOf(process.cpuUsage(cpu)));
  losses.push(lossSum![0]! / tokens);
}
await program.close();
await optimizer.close();
const peakBytes = process.resourceUsage().maxRSS * 1024;
console.log(JSON.stringify({ seconds, cpuSeconds, losses, peakBytes, compileSeconds }));
