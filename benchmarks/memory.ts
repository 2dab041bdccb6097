// Prints a breakdown of training memory: stored weights, parameters with optimizer state, one row of tokens. Nothing is
// timed, so a busy machine prints the same. Its results are in docs/models.md.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openEngine } from '../src/engine/engine.ts';
import type { StoredTensor } from '../src/engine/program.ts';
import { copiesOf } from '../src/engine/weights.ts';
import type { Quantization } from '../src/formats/quantization.ts';
import { quantizeWeights } from '../src/models/quantized-weights.ts';
import { openModel } from '../src/models/registry.ts';
import { STATE_BYTES } from '../src/training/layout-choice.ts';
import { ownBytes } from '../src/training/memory.ts';
import type { ResolvedHyperparameters } from '../src/training/protocol.ts';
import { zeros } from '../src/training/state.ts';
import { firstValues, stateLayoutOf, tuningOf } from '../src/training/trainable.ts';
import { openTrainer } from '../src/training/trainer.ts';
import { makeModel, type ShapeName } from './train-model.ts';
import { objectiveOf } from './train-task.ts';

const METHODS = ['full', 'lora', 'int16', 'int8', 'int4', 'nf4'] as const;
type MethodName = (typeof METHODS)[number];

interface Order {
  readonly shape: ShapeName;
  readonly folder: string;
  readonly length: number;
  readonly method: MethodName;
  /** Recompute activations. */
  readonly checkpointing: boolean;
}

const LORA = { adapter: 'lora', rank: 16, alpha: 32, dropout: 0, target_modules: 'all-linear' };
const isQuantized = (method: MethodName): method is Quantization => method !== 'full' && method !== 'lora';

/** Bytes of a weight as it is read: from its own file, quantized, or both. */
const storedBytes = (stored: StoredTensor): number =>
  copiesOf(stored).reduce(
    (sum, { codes, scales }) => sum + codes.sizeBytes + scales.sizeBytes,
    stored.quantized ? 0 : stored.sizeBytes,
  );

async function measure({ shape, folder, length, method, checkpointing }: Order) {
  const engine = await openEngine({ engine: 'onnx', device: 'cpu', threads: 2 });
  const stored = await openModel(folder);
  const model = isQuantized(method)
    ? await quantizeWeights(stored, method, join(folder, 'quantized'))
    : stored;
  const chosen: unknown = method === 'full' ? { ...LORA, adapter: 'full' } : LORA;
  const tuning = tuningOf(model, chosen as ResolvedHyperparameters);
  const objective = await objectiveOf(shape, model);
  const state = stateLayoutOf(model, tuning, objective);
  const trained = { model, tuning, objective, state, gradientCheckpointing: checkpointing };
  const trainer = await openTrainer({
    engine,
    trained,
    state: {
      parameters: await firstValues({ ...trained, adapter: null, seed: 1 }, state),
      m: zeros(state.size),
      v: zeros(state.size),
    },
    costs: { hiddenSize: model.shape.hiddenSize },
    shapes: () => [],
    between: async () => undefined,
  });
  const resting = ownBytes();
  const row = await trainer.measureMemory({ rows: 1, length });
  await trainer.close();
  const frozen = method === 'full' ? [] : Object.values(model.weights);
  return {
    parameters: model.parameters,
    weights: frozen.reduce((sum, weight) => sum + storedBytes(weight), 0),
    state: state.size * STATE_BYTES,
    process: resting - state.size * STATE_BYTES,
    row,
    perToken: row / length,
    peak: process.resourceUsage().maxRSS * 1024,
  };
}

const megabytes = (bytes: number) => (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);

/** A process for each, because peak memory is per process. */
async function measureAlone(order: Order): Promise<Awaited<ReturnType<typeof measure>>> {
  const child = fork(import.meta.filename, [JSON.stringify(order)]);
  const [result] = await once(child, 'message');
  return result;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      shape: { type: 'string', default: 'llama-160m' },
      length: { type: 'string', default: '512' },
      method: { type: 'string', default: METHODS.join() },
      checkpointing: { type: 'boolean', default: false },
      directory: { type: 'string', default: join(tmpdir(), 'anneal-benchmark') },
    },
  });
  const shape = values.shape as ShapeName;
  const folder = join(values.directory, shape);
  await makeModel(folder, shape);
  console.log('method  parameters  weights  state  process  row  row/token  peak (MB)');
  for (const method of values.method.split(',') as MethodName[]) {
    const { parameters, weights, state, process, row, perToken, peak } = await measureAlone({
      shape,
      folder,
      length: Number(values.length),
      method,
      checkpointing: values.checkpointing,
    });
    const columns = [weights, state, process, row, perToken, peak].map(megabytes);
    console.log([method, `${(parameters / 1e6).toFixed(0)}M`, ...columns].join('  '));
  }
}

const order = process.argv[2];
if (order?.startsWith('{')) process.send!(await measure(JSON.parse(order)));
else await main();
