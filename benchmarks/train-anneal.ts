// Trains a benchmark's model on one of this project's engines for some steps and prints its measurements as JSON. Run
// by train.ts.
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { type EngineName, openEngine } from '../src/engine/engine.ts';
import type { Precision, Provider } from '../src/engine/onnx/lowering.ts';
import { onnxEngine } from '../src/engine/onnx.ts';
import { PASSES } from '../src/engine/passes.ts';
import type { Quantization } from '../src/formats/quantization.ts';
import { quantizeWeights } from '../src/models/quantized-weights.ts';
import { openModel } from '../src/models/registry.ts';
import type { ResolvedHyperparameters } from '../src/training/protocol.ts';
import { firstValues, stateLayoutOf, tuningOf } from '../src/training/trainable.ts';
import { openTrainer } from '../src/training/trainer.ts';
import { TARGETS } from './train-model.ts';
import { examplesOf, objectiveOf, type Row, TASKS, tokensOf } from './train-task.ts';

export interface Order {
  readonly row: Row;
  readonly folder: string;
  readonly engine: EngineName;
  readonly device: Provider;
  readonly precision: Precision;
  readonly quantization: Quantization | null;
  readonly gradientCheckpointing: boolean;
  readonly steps: number;
  readonly threads: number;
  /** Start of a file name for ONNX Runtime's profile; null: none. */
  readonly profile: string | null;
}

const order: Order = JSON.parse(process.argv[2]!);
const { row, folder, device, precision, threads, profile } = order;
const started = performance.now();
const engine = profile
  ? onnxEngine({ provider: device, precision, threads, passes: PASSES, profile })
  : await openEngine({ engine: order.engine, device, precision, threads });
const stored = await openModel(folder, TASKS[row.shape] === 'classification' ? 'sequence' : 'as-saved');
const model = order.quantization
  ? await quantizeWeights(stored, order.quantization, join(folder, 'quantized'))
  : stored;
const chosen = {
  adapter: 'lora',
  rank: 8,
  alpha: 16,
  dropout: 0,
  target_modules: TARGETS[row.shape],
};
const tuning = tuningOf(model, chosen as unknown as ResolvedHyperparameters);
const objective = await objectiveOf(row.shape, model);
const state = stateLayoutOf(model, tuning, objective);
const { gradientCheckpointing } = order;
const trained = { model, tuning, objective, state, gradientCheckpointing };
const parameters = await firstValues({ ...trained, adapter: null, seed: 1 }, state);
const shape = { rows: row.rows, length: row.length };
const trainer = await openTrainer({
  engine,
  trained,
  state: { parameters, m: new Float32Array(state.size), v: new Float32Array(state.size) },
  costs: { hiddenSize: model.shape.hiddenSize },
  shapes: () => [shape],
  between: async () => undefined,
});
const examples = examplesOf(row, model.shape.vocabSize);
const plan = [{ shape, rows: examples.map((_, index) => [index]) }];
const cpuOf = ({ user, system }: NodeJS.CpuUsage) => (user + system) / 1e6;
const seconds: number[] = [];
const cpuSeconds: number[] = [];
const losses: number[] = [];
let firstStepSeconds = 0;
for (let step = 1; step <= order.steps; step++) {
  const start = performance.now();
  const cpu = process.cpuUsage();
  const options = { step, learningRate: 1e-3, weightDecay: 0.01, maxGradNorm: 1, seed: 1 };
  const { loss, weight } = await trainer.takeStep(plan, examples, options);
  seconds.push((performance.now() - start) / 1000);
  cpuSeconds.push(cpuOf(process.cpuUsage(cpu)));
  losses.push(loss / weight);
  firstStepSeconds ||= (performance.now() - started) / 1000;
}
await trainer.close();
const peakBytes = process.resourceUsage().maxRSS * 1024;

/** GFLOP of the matrix products of a step: forward, and again for the gradients of what frozen weights multiply. Attention is left out. */
const layers = model.linearLayers.reduce((sum, layer) => sum + layer.inFeatures * layer.outFeatures, 0);
const learning = examples.reduce(
  (sum, { sequences }) => sum + sequences.at(-1)!.trained.reduce((count, one) => count + one, 0),
  0,
);
const output = objective.head ? 0 : learning * model.shape.vocabSize * model.shape.hiddenSize;
// Each half of an encoder-decoder sees its own tokens only; the mean of both is near enough for a share.
const tokens = row.rows * (TASKS[row.shape] === 'answering' ? tokensOf(row) / 2 : row.length);
const gflop = (4 * (layers * tokens + output)) / 1e9;
console.log(JSON.stringify({ seconds, cpuSeconds, losses, peakBytes, firstStepSeconds, gflop }));
