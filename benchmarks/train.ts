// Tokens per second and peak memory of training adapters on this project's engines and on PyTorch, in turn, in one run.
// `node benchmarks/train.ts [--quick] [--shape gpt2-124m,bert-base] [--length 512] [--masked 0] [--tokens 512] [--contender onnx,int8,pytorch] [--rounds 2] [--steps 5]
// [--device cuda] [--json file]`
// It says first how long it will take. Random weights of published shapes, rank 8, AdamW and clipping included, the same tokens for all.
// A contender that is not installed is left out, unless --contender names it: PyTorch needs torch, transformers, peft and accelerate in the Python that PYTHON names.
import { spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type EngineName, openEngine } from '../src/engine/engine.ts';
import { computingEnvironment } from '../src/engine/environment.ts';
import { tensorflowIsSetUp } from '../src/engine/tensorflow-backend.ts';
import { tf } from '../src/engine/tf.ts';
import { type OnCards, parseDevice, runContender, torchDevice } from './contender.ts';
import type { Order } from './train-anneal.ts';
import { makeModel, type ShapeName, TARGETS } from './train-model.ts';
import { ANSWER_SHARE, type Row, rowsOf, TASKS, tokensOf } from './train-task.ts';

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    shape: { type: 'string' },
    length: { type: 'string' },
    masked: { type: 'string' },
    tokens: { type: 'string', default: '512' },
    contender: { type: 'string' },
    device: { type: 'string', default: 'cpu' },
    json: { type: 'string' },
    rounds: { type: 'string' },
    steps: { type: 'string', default: '5' },
    threads: { type: 'string', default: String(availableParallelism()) },
  },
});
const python = process.env.PYTHON ?? 'python3';
const device = parseDevice(values.device);
const [threads, steps] = [Number(values.threads), Number(values.steps)];
const rounds = Number(values.rounds ?? (values.quick ? 1 : 2));

interface Printed {
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

function refuse(message: string): never {
  console.error(message);
  process.exit(2);
}
if (!(steps > WARM_UP))
  refuse(`--steps must be at least ${WARM_UP + 1}: the first ${WARM_UP} are not timed.`);

type Measured = Printed & OnCards;
type Contender = (row: Row, folder: string) => Promise<Measured>;

const runScript = (command: string, script: string, order: object, environment?: NodeJS.ProcessEnv) =>
  runContender<Printed>(command, [join(import.meta.dirname, script), JSON.stringify(order)], '', environment);

const onEngine =
  (
    engine: EngineName,
    options: Partial<Pick<Order, 'quantization' | 'precision' | 'gradientCheckpointing'>> = {},
  ): Contender =>
  (row, folder) => {
    const order: Order = {
      ...{ row, folder, engine, device, steps, threads, profile: null },
      ...{ quantization: null, precision: 'float32', gradientCheckpointing: false, ...options },
    };
    return runScript(process.execPath, 'train-anneal.ts', order, computingEnvironment());
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
      ...{ folder, device: torchDevice(device), steps, threads, dtype, trainer },
    };
    return runScript(python, 'train_pytorch.py', order);
  };

const hasPyTorch = (): boolean =>
  spawnSync(python, ['-c', 'import torch, transformers, peft, accelerate'], { stdio: 'ignore' }).status === 0;

/** `checkpointing` computes activations again. `pytorch` is written by hand, `trainer` is transformers' Trainer; both in float32, as `onnx`. */
const CONTENDERS: Record<string, Contender> = {
  onnx: onEngine('onnx'),
  checkpointing: onEngine('onnx', { gradientCheckpointing: true }),
  int16: onEngine('onnx', { quantization: 'int16' }),
  int8: onEngine('onnx', { quantization: 'int8' }),
  int4: onEngine('onnx', { quantization: 'int4' }),
  nf4: onEngine('onnx', { quantization: 'nf4' }),
  ...(device === 'cuda' && { bf16: onEngine('onnx', { precision: 'bfloat16' }) }),
  ...(device === 'cpu' && tensorflowIsSetUp() && { tensorflow: onEngine('tensorflow') }),
  ...(hasPyTorch() && {
    pytorch: onPyTorch('float32', false),
    trainer: onPyTorch('float32', true),
    'pytorch-bf16': onPyTorch('bfloat16', false),
  }),
};
const USUAL = device === 'cpu' ? 'onnx,int8,pytorch,trainer,pytorch-bf16' : 'onnx,bf16,pytorch,pytorch-bf16';

const median = (numbers: readonly number[]): number =>
  numbers.toSorted((a, b) => a - b)[numbers.length >> 1]!;

/** GFLOP/s of [512, 768] x [768, 3072] with a frozen right side on the onnx engine: what a step in float32 could reach at most on the processor. */
async function processorRate(): Promise<number> {
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

/** GFLOP/s of a large product in bf16 with PyTorch: what is called a card's peak; null where PyTorch is not. */
async function cardRate(): Promise<number | null> {
  if (!hasPyTorch()) return null;
  const args = [join(import.meta.dirname, 'peak_pytorch.py'), torchDevice(device)];
  return (await runContender<{ gflops: number }>(python, args)).gflops;
}

const productRate = (): Promise<number | null> => (device === 'cpu' ? processorRate() : cardRate());

// ---- which rows

const chosenBy = (asked: string | undefined, value: string | number): boolean =>
  asked === undefined || asked.split(',').includes(String(value));

/** One length of each shape, and prompts of both kinds where there are prompts. */
const isQuick = ({ length }: Row) => length === 512;

const rows = rowsOf(Number(values.tokens)).filter(
  row =>
    (!values.quick || isQuick(row)) &&
    (values.shape === undefined ? row.shape !== 'llama-tiny' : chosenBy(values.shape, row.shape)) &&
    chosenBy(values.length, row.length) &&
    chosenBy(values.masked, row.masked),
);
if (rows.length === 0)
  refuse(
    'No row has that shape, length and share of masked tokens. Rows (--shape --length --masked):\n' +
      rowsOf(Number(values.tokens))
        .map(row => `  ${row.shape} ${row.length} ${row.masked}`)
        .join('\n'),
  );

/** Every contender of the usual ones that is installed, or those that are asked for, which must be. */
function chosenContenders(asked: string | undefined): string[] {
  const names = (asked ?? USUAL).split(',');
  if (asked === undefined) return names.filter(name => CONTENDERS[name]);
  const missing = names.filter(name => !CONTENDERS[name]);
  if (missing.length > 0)
    refuse(
      `Not known or not installed: ${missing.join(', ')}. There are ${Object.keys(CONTENDERS).join(', ')}.`,
    );
  return names;
}
const contenders = chosenContenders(values.contender);

/** Millions of parameters that multiply. */
const MILLIONS: Record<ShapeName, number> = {
  'gpt2-124m': 124,
  'llama-160m': 138,
  'llama-tiny': 0.1,
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

/** What the others are compared with. */
const PEER = device === 'cpu' ? 'pytorch' : 'pytorch-bf16';

/** A contender's part of a row. */
interface Summary {
  readonly name: string;
  readonly tokensPerSecond: number;
  readonly bestTokensPerSecond: number;
  readonly cpuSeconds: number;
  readonly peakBytes: number;
  /** Of the card; null on the processor. */
  readonly cardBytes: number | null;
  readonly firstStepSeconds: number | null;
  readonly loss: number;
  readonly ofPeer: number | null;
  readonly ofPeerMemory: number | null;
  /** Of the rate of a bare product. */
  readonly ofRate: number | null;
}

const most = (numbers: readonly (number | null)[]): number | null => {
  const known = numbers.filter(number => number !== null);
  return known.length === 0 ? null : Math.max(...known);
};

function summarize(row: Row, name: string, all: readonly Measured[]) {
  const tokens = row.rows * tokensOf(row);
  const seconds = all.flatMap(one => one.seconds.slice(WARM_UP));
  return {
    name,
    tokensPerSecond: tokens / median(seconds),
    bestTokensPerSecond: tokens / Math.min(...seconds),
    cpuSeconds: median(all.flatMap(one => one.cpuSeconds.slice(WARM_UP))),
    peakBytes: Math.max(...all.map(({ peakBytes }) => peakBytes)),
    cardBytes: device === 'cpu' ? null : most(all.map(({ cardBytes }) => cardBytes)),
    firstStepSeconds: all[0]!.firstStepSeconds ?? null,
    loss: all[0]!.losses.at(-1) ?? Number.NaN,
  };
}

const over = (a: number | null, b: number | null | undefined): number | null =>
  a === null || !b ? null : a / b;

function compare(row: Row, results: ReadonlyMap<string, Measured[]>, rate: number | null): Summary[] {
  const gflop = [...results.values()].flat().find(measured => measured.gflop)?.gflop ?? null;
  const summaries = [...results].map(([name, all]) => summarize(row, name, all));
  const peer = summaries.find(({ name }) => name === PEER);
  const gflopPerToken = over(gflop, row.rows * tokensOf(row));
  return summaries.map(one => ({
    ...one,
    ofPeer: over(one.tokensPerSecond, peer?.tokensPerSecond),
    ofPeerMemory:
      device === 'cpu' ? over(one.peakBytes, peer?.peakBytes) : over(one.cardBytes, peer?.cardBytes),
    ofRate: over(gflopPerToken === null ? null : gflopPerToken * one.tokensPerSecond, rate),
  }));
}

const whole = (number: number) => number.toFixed(0);
const megabytes = (bytes: number | null) => (bytes === null ? '' : whole(bytes / 1e6));
const ratio = (number: number | null) => (number === null ? '' : number.toFixed(2));

const COLUMNS: readonly (readonly [heading: string, width: number, cell: (one: Summary) => string])[] = [
  ['tokens/s', 9, one => whole(one.tokensPerSecond)],
  ['best', 8, one => whole(one.bestTokensPerSecond)],
  [`of ${PEER}`, 17, one => ratio(one.ofPeer)],
  ['of its memory', 15, one => ratio(one.ofPeerMemory)],
  ['of products', 13, one => (one.ofRate === null ? '' : `${whole(100 * one.ofRate)} %`)],
  ['cpu s', 7, one => one.cpuSeconds.toFixed(2)],
  ['peak MB', 9, one => megabytes(one.peakBytes)],
  ['card MB', 9, one => megabytes(one.cardBytes)],
  ['1st step', 10, one => (one.firstStepSeconds === null ? '' : `${one.firstStepSeconds.toFixed(1)} s`)],
  ['loss', 7, one => one.loss.toFixed(3)],
];

function print(row: Row, summaries: readonly Summary[]): void {
  console.log(`\n${row.shape}, ${row.rows} x ${row.length}, ${row.masked * 100}% masked`);
  const line = (name: string, cells: readonly string[]) =>
    name.padEnd(13) + cells.map((cell, i) => cell.padStart(COLUMNS[i]![1])).join('');
  console.log(
    line(
      'contender',
      COLUMNS.map(([heading]) => heading),
    ),
  );
  for (const one of summaries)
    console.log(
      line(
        one.name,
        COLUMNS.map(([, , cell]) => cell(one)),
      ),
    );
}

/** Every contender in turn, as often as there are rounds. One that fails is said to, and left out. */
async function measure(row: Row, folder: string) {
  const results = new Map(contenders.map(name => [name, [] as Measured[]]));
  const rates: (number | null)[] = [];
  for (let round = 0; round < rounds; round++) {
    rates.push(await productRate());
    for (const name of contenders) {
      const measured = await CONTENDERS[name]!(row, folder).catch(error =>
        console.error(`${name}: ${String(error).slice(0, 400)}`),
      );
      if (measured) results.get(name)!.push(measured);
    }
  }
  return { rate: most(rates), results: new Map([...results].filter(([, all]) => all.length > 0)) };
}

const minutes = rows.reduce((sum, row) => sum + expectedSeconds(row), 0) / 60;
console.log(
  `${rows.length} rows of ${contenders.join(', ')} on ${device}; about ${Math.ceil(minutes)} minutes on two cores`,
);
const report = [];
for (const row of rows) {
  const folder = join(tmpdir(), 'anneal-benchmark', row.shape);
  await makeModel(folder, row.shape);
  const { rate, results } = await measure(row, folder);
  const contenders = compare(row, results, rate);
  print(row, contenders);
  report.push({ ...row, gflopsOfProducts: rate, contenders });
}
if (values.json) await writeFile(values.json, JSON.stringify(report, null, 2));
if (report.some(({ contenders }) => contenders.length === 0)) process.exitCode = 1;
