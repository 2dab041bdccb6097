// Tokens per second and peak memory of training adapters on this project's engines and on PyTorch, in turn, in one run.
// `node benchmarks/train.ts [--quick] [--shape gpt2-124m,bert-base] [--length 512] [--masked 0] [--contender onnx,int8,pytorch] [--rounds 2] [--steps 5]`
// It says first how long it will take. Random weights of published shapes, rank 8, AdamW and clipping included, the same tokens for all.
// A contender that is not installed is left out: PyTorch needs torch, transformers, peft and accelerate in the Python that PYTHON names.
import { execFileSync, spawnSync } from 'node:child_process';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type EngineName, openEngine } from '../src/engine/engine.ts';
import { tensorflowIsSetUp } from '../src/engine/tensorflow-backend.ts';
import { tf } from '../src/engine/tf.ts';
import type { Quantization } from '../src/formats/quantization.ts';
import type { Order } from './train-anneal.ts';
import { makeModel, type ShapeName, TARGETS } from './train-model.ts';
import { ANSWER_SHARE, ROWS, type Row, TASKS, tokensOf } from './train-task.ts';

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    shape: { type: 'string' },
    length: { type: 'string' },
    masked: { type: 'string' },
    contender: { type: 'string' },
    rounds: { type: 'string' },
    steps: { type: 'string', default: '5' },
    threads: { type: 'string', default: String(availableParallelism()) },
  },
});
const python = process.env.PYTHON ?? 'python3';
const [threads, steps] = [Number(values.threads), Number(values.steps)];
const rounds = Number(values.rounds ?? (values.quick ? 1 : 2));

interface Measured {
  readonly seconds: number[];
  readonly cpuSeconds: number[];
  readonly losses: number[];
  readonly peakBytes: number;
  /** Of this project's engines only. */
  readonly gflop?: number;
  readonly firstStepSeconds?: number;
}

/** Steps that a contender warms up on: allocation, thread pools, page cache. */
const WARM_UP = 2;

type Contender = (row: Row, folder: string) => Measured;

function runChild(command: string, args: readonly string[]): Measured {
  const output = execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return JSON.parse(output.trim().split('\n').at(-1)!);
}

const onEngine =
  (engine: EngineName, quantization: Quantization | null = null): Contender =>
  (row, folder) => {
    const order: Order = { row, folder, engine, quantization, steps, threads, profile: null };
    return runChild(process.execPath, [join(import.meta.dirname, 'train-anneal.ts'), JSON.stringify(order)]);
  };

const onPyTorch =
  (dtype: 'float32' | 'bfloat16', trainer: boolean): Contender =>
  (row, folder) => {
    const { shape, ...rest } = row;
    const order = {
      ...rest,
      task: TASKS[shape],
      answer: row.length * ANSWER_SHARE,
      targets: TARGETS[shape],
      ...{ folder, steps, threads, dtype, trainer },
    };
    return runChild(python, [join(import.meta.dirname, 'train_pytorch.py'), JSON.stringify(order)]);
  };

const hasPyTorch = (): boolean =>
  spawnSync(python, ['-c', 'import torch, transformers, peft, accelerate'], { stdio: 'ignore' }).status === 0;

/** `pytorch` is written by hand, `trainer` is transformers' Trainer; both in float32, as `onnx`. */
const CONTENDERS: Record<string, Contender> = {
  onnx: onEngine('onnx'),
  int8: onEngine('onnx', 'int8'),
  int4: onEngine('onnx', 'int4'),
  nf4: onEngine('onnx', 'nf4'),
  ...(tensorflowIsSetUp() && { tensorflow: onEngine('tensorflow') }),
  ...(hasPyTorch() && {
    pytorch: onPyTorch('float32', false),
    trainer: onPyTorch('float32', true),
    'pytorch-bf16': onPyTorch('bfloat16', false),
  }),
};
const USUAL = 'onnx,int8,pytorch,trainer,pytorch-bf16';

const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[numbers.length >> 1]!;

/** GFLOP/s of [512, 768] x [768, 3072] with a frozen right side on the onnx engine: what a step in float32 could reach at most. */
async function productRate(): Promise<number> {
  const [m, k, n] = [512, 768, 3072];
  const engine = await openEngine({ engine: 'onnx', device: 'cpu', threads });
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

// ---- which rows

const chosenBy = (asked: string | undefined, value: string | number): boolean =>
  asked === undefined || asked.split(',').includes(String(value));

/** One length of each shape, and prompts of both kinds where there are prompts. */
const isQuick = ({ length }: Row) => length === 512;

const rows = ROWS.filter(
  row =>
    (!values.quick || isQuick(row)) &&
    chosenBy(values.shape, row.shape) &&
    chosenBy(values.length, row.length) &&
    chosenBy(values.masked, row.masked),
);
const contenders = (values.contender ?? USUAL).split(',').filter(name => CONTENDERS[name]);

/** Millions of parameters that multiply. */
const MILLIONS: Record<ShapeName, number> = {
  'gpt2-124m': 124,
  'llama-160m': 138,
  'llama-1b': 1034,
  'bert-base': 86,
  't5-small': 60,
};
/** GFLOP/s that steps were seen to reach on two cores with AVX-512, and seconds until a contender's first step. */
const [USUAL_GFLOPS, START_SECONDS] = [220, 7];

function expectedSeconds(row: Row): number {
  const step = (4 * MILLIONS[row.shape] * row.rows * row.length) / 1e3 / USUAL_GFLOPS;
  return rounds * contenders.length * (START_SECONDS + (MILLIONS[row.shape] / 100) * 2 + steps * step);
}

// ---- the table

const cell = (text: string | number, width: number) => String(text).padStart(width);

function report(row: Row, results: Map<string, Measured[]>, rate: number): void {
  const tokens = row.rows * tokensOf(row);
  const gflop = [...results.values()].flat().find(measured => measured.gflop)?.gflop;
  const summaries = [...results].map(([name, all]) => {
    const seconds = all.flatMap(one => one.seconds.slice(WARM_UP));
    return {
      name,
      seconds: median(seconds),
      best: Math.min(...seconds),
      cpu: median(all.flatMap(one => one.cpuSeconds.slice(WARM_UP))),
      bytes: Math.max(...all.map(({ peakBytes }) => peakBytes)),
      first: all[0]!.firstStepSeconds,
      loss: all[0]!.losses.at(-1) ?? Number.NaN,
    };
  });
  const peer = summaries.find(({ name }) => name === 'pytorch');
  console.log(`\n${row.shape}, ${row.rows} x ${row.length}, ${row.masked * 100}% masked`);
  console.log(
    'contender     tokens/s   best  of pytorch  of its memory  of products  cpu s  peak MB  1st step   loss',
  );
  for (const one of summaries)
    console.log(
      one.name.padEnd(13) +
        cell((tokens / one.seconds).toFixed(0), 9) +
        cell((tokens / one.best).toFixed(0), 7) +
        cell(peer ? (peer.seconds / one.seconds).toFixed(2) : '', 12) +
        cell(peer ? (one.bytes / peer.bytes).toFixed(2) : '', 15) +
        cell(gflop ? `${((100 * gflop) / one.seconds / rate).toFixed(0)} %` : '', 13) +
        cell(one.cpu.toFixed(2), 7) +
        cell((one.bytes / 1e6).toFixed(0), 9) +
        cell(one.first ? `${one.first.toFixed(1)} s` : '', 10) +
        cell(one.loss.toFixed(3), 7),
    );
}

const minutes = rows.reduce((sum, row) => sum + expectedSeconds(row), 0) / 60;
console.log(
  `${rows.length} rows of ${contenders.join(', ')}; about ${Math.ceil(minutes)} minutes on two cores`,
);
for (const row of rows) {
  const folder = join(tmpdir(), 'anneal-benchmark', row.shape);
  await makeModel(folder, row.shape);
  const results = new Map(contenders.map(name => [name, [] as Measured[]]));
  const rates: number[] = [];
  for (let round = 0; round < rounds; round++) {
    rates.push(await productRate());
    for (const name of contenders) {
      try {
        results.get(name)!.push(CONTENDERS[name]!(row, folder));
      } catch (error) {
        console.error(`${name}: ${String(error).split('\n')[0]!.slice(0, 120)}`);
      }
    }
  }
  const measured = [...results].filter(([, all]) => all.length > 0);
  report(row, new Map(measured), Math.max(...rates));
}
