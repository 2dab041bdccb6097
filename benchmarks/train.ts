// Tokens per second and peak memory of LoRA training on this project's engines and on PyTorch, in turn, in one run:
// `node benchmarks/train.ts [--shape gpt2-124m|llama-160m|all] [--rounds 3] [--steps 6] [--length 512] [--threads N]`.
// The same folder of random weights, batch 1 x length, every token trained, rank 8, AdamW and clipping included. A contender that is not
// installed is left out: PyTorch needs torch, transformers and peft in the Python that PYTHON names, `tensorflow` its set-up.
import { execFileSync, spawnSync } from 'node:child_process';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openEngine } from '../src/engine/engine.ts';
import { tensorflowIsSetUp } from '../src/engine/tensorflow-backend.ts';
import { tf } from '../src/engine/tf.ts';
import { makeModel, SHAPES, type ShapeName, TARGETS } from './train-model.ts';

const { values } = parseArgs({
  options: {
    shape: { type: 'string', default: 'all' },
    rounds: { type: 'string', default: '3' },
    steps: { type: 'string', default: '6' },
    length: { type: 'string', default: '512' },
    threads: { type: 'string', default: String(availableParallelism()) },
  },
});
const python = process.env.PYTHON ?? 'python3';
const { length, threads, steps } = values;
const tokens = Number(length);

interface Measured {
  readonly seconds: number[];
  readonly cpuSeconds: number[];
  readonly losses: number[];
  readonly peakBytes: number;
}

/** Steps that a contender warms up on: allocation, thread pools, page cache. */
const WARM_UP = 2;

const hasPyTorch = (): boolean =>
  spawnSync(python, ['-c', 'import torch, transformers, peft'], { stdio: 'ignore' }).status === 0;

type Contender = (shape: ShapeName, folder: string) => Measured;

function runChild(command: string, args: readonly string[]): Measured {
  const output = execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return JSON.parse(output.trim().split('\n').at(-1)!);
}

const onEngine =
  (engine: string): Contender =>
  (shape, folder) =>
    runChild(process.execPath, [
      join(import.meta.dirname, 'train-anneal.ts'),
      engine,
      shape,
      folder,
      steps,
      length,
      threads,
    ]);

const onPyTorch: Contender = (shape, folder) =>
  runChild(python, [
    join(import.meta.dirname, 'train_pytorch.py'),
    ...[folder, steps, length, threads, TARGETS[shape].join()],
  ]);

const CONTENDERS: Record<string, Contender> = {
  onnx: onEngine('onnx'),
  ...(tensorflowIsSetUp() && { tensorflow: onEngine('tensorflow') }),
  ...(hasPyTorch() && { pytorch: onPyTorch }),
};

const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[numbers.length >> 1]!;

/** GFLOP/s of [512, 768] x [768, 3072] with a frozen right side on the onnx engine: what a step could reach at most. */
async function productRate(): Promise<number> {
  const [m, k, n] = [512, 768, 3072];
  const engine = await openEngine({ engine: 'onnx', device: 'cpu', threads: Number(threads) });
  const weights = tf.util.createShuffledIndices(k * n);
  const program = await engine.compile({
    name: 'product',
    inputs: { x: { shape: [m, k], dtype: 'float32' } },
    weights: {},
    run: ({ x }) => ({ y: tf.matMul(x as never, tf.tensor2d(Float32Array.from(weights), [k, n])) }),
  });
  const inputs = { x: new Float32Array(m * k).fill(0.5) };
  const into = { y: new Float32Array(m * n) };
  const seconds: number[] = [];
  for (let i = 0; i < 30; i++) {
    const start = performance.now();
    await program.run(inputs, into);
    seconds.push((performance.now() - start) / 1000);
  }
  await program.close();
  return (2 * m * k * n) / Math.min(...seconds) / 1e9;
}

/**
 * GFLOP of a token: twice the parameters that multiply, forward, and again for the gradient of what they multiply (frozen weights have none of
 * their own); attention over half of the keys on average, two products forward and four backward.
 */
function gflopOfToken(shape: ShapeName): number {
  const config = SHAPES[shape];
  const [width, layers, inner, projections] =
    config.model_type === 'gpt2'
      ? [config.n_embd, config.n_layer, 2 * 4 * config.n_embd, 4 * config.n_embd]
      : [config.hidden_size, config.num_hidden_layers, 3 * config.intermediate_size, 4 * config.hidden_size];
  const parameters = layers * width * (inner + projections) + config.vocab_size * width;
  const attention = layers * 6 * 2 * width * (tokens / 2);
  return (4 * parameters + attention) / 1e9;
}

function report(shape: ShapeName, results: Map<string, Measured[]>, rate: number): void {
  const gflop = gflopOfToken(shape);
  console.log(`\n${shape}, 1 x ${length}, ${threads} threads; matrix products at ${rate.toFixed(0)} GFLOP/s`);
  console.log('contender    tokens/s   best  of products  cpu s/step  peak MB  loss after');
  const speeds: Record<string, number> = {};
  for (const [name, rounds] of results) {
    const seconds = rounds.flatMap(round => round.seconds.slice(WARM_UP));
    const cpu = rounds.flatMap(round => round.cpuSeconds.slice(WARM_UP));
    const speed = tokens / median(seconds);
    speeds[name] = speed;
    const cells = [
      name.padEnd(11),
      speed.toFixed(1).padStart(9),
      (tokens / Math.min(...seconds)).toFixed(1).padStart(7),
      `${((100 * speed * gflop) / rate).toFixed(0)} %`.padStart(12),
      median(cpu).toFixed(2).padStart(11),
      (Math.max(...rounds.map(({ peakBytes }) => peakBytes)) / 1e6).toFixed(0).padStart(8),
      rounds[0]!.losses.at(-1)!.toFixed(4).padStart(11),
    ];
    console.log(cells.join(' '));
  }
  for (const [name, speed] of Object.entries(speeds))
    if (name !== 'onnx') console.log(`onnx is ${(speeds.onnx! / speed).toFixed(2)} times ${name}`);
}

const shapes = (Object.keys(SHAPES) as ShapeName[]).filter(shape => ['all', shape].includes(values.shape));
for (const shape of shapes) {
  const folder = join(tmpdir(), 'anneal-benchmark', shape);
  await makeModel(folder, shape);
  const results = new Map(Object.keys(CONTENDERS).map(name => [name, [] as Measured[]]));
  const rates: number[] = [];
  for (let round = 0; round < Number(values.rounds); round++) {
    rates.push(await productRate());
    for (const [name, contender] of Object.entries(CONTENDERS)) {
      const measured = contender(shape, folder);
      results.get(name)!.push(measured);
      console.error(
        `round ${round + 1}: ${name} ${(tokens / median(measured.seconds.slice(WARM_UP))).toFixed(1)} tokens/s`,
      );
    }
  }
  report(shape, results, Math.max(...rates));
}
