// Generation against transformers' generate: time to the first token, tokens per second with 1, 8 and 32 requests at once, on the base
// model and on 8 adapters. `node benchmarks/serve.ts [--shape llama-160m] [--requests 1,8,32] [--prompt 64] [--answer 64] [--device cuda] [--json file]`
// It says first how long it will take. Ours is the generation process as the api talks to it; transformers gets all requests as one
// batch of equal length, its best case, and adapters by PEFT's `adapter_names`. PYTHON names a Python with torch, transformers and peft.
import { fork, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cp, readFile, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { writeAdapter } from '../src/formats/peft.ts';
import { loraShapes, selectLayers } from '../src/models/lora.ts';
import { openModel } from '../src/models/registry.ts';
import type { FromChild, GenerationParameters, ServiceOptions, ToChild } from '../src/serving/protocol.ts';
import { GREEDY } from '../src/serving/sampling.ts';
import { parseDevice, runContender, torchDevice, watchCards } from './contender.ts';
import { makeModel, type ShapeName, TARGETS } from './train-model.ts';

const { values } = parseArgs({
  options: {
    shape: { type: 'string', default: 'llama-160m' },
    requests: { type: 'string', default: '1,8,32' },
    prompt: { type: 'string', default: '64' },
    answer: { type: 'string', default: '64' },
    rounds: { type: 'string', default: '3' },
    device: { type: 'string', default: 'cpu' },
    json: { type: 'string' },
    threads: { type: 'string', default: String(availableParallelism()) },
  },
});
const shape = values.shape as ShapeName;
const device = parseDevice(values.device);
const [prompt, answer, rounds, threads] = [values.prompt, values.answer, values.rounds, values.threads].map(
  Number,
) as [number, number, number, number];
const counts = values.requests.split(',').map(Number);
const python = process.env.PYTHON ?? 'python3';
const root = join(import.meta.dirname, '..');
const ADAPTERS = 8;

interface Case {
  readonly requests: number;
  /** 0: the base model. */
  readonly adapters: number;
}

interface Measured {
  /** Seconds from the request to its first token, the mean over requests. */
  readonly firstToken: number;
  readonly tokensPerSecond: number;
}

/** The best round of each case, and the memory that the process has at the end, pages of files counted once. */
interface Results {
  readonly cases: Measured[];
  readonly bytes: number;
  /** The most of the card's; null without one. */
  readonly cardBytes: number | null;
}

const cases: Case[] = counts.flatMap(requests => [
  { requests, adapters: 0 },
  ...(requests > 1 ? [{ requests, adapters: ADAPTERS }] : []),
]);

const best = (all: readonly Measured[]): Measured =>
  all.reduce((best, one) => (one.tokensPerSecond > best.tokensPerSecond ? one : best));

// ---- the model, its adapters

const folder = join(tmpdir(), 'anneal-benchmark', shape);
const adapterFolder = (index: number) => join(folder, 'adapters', String(index));

async function makeServed(): Promise<void> {
  await makeModel(folder, shape);
  for (const name of ['tokenizer.json', 'tokenizer_config.json'])
    await cp(join(root, 'tests/golden/llama-tiny', name), join(folder, name));
  const { linearLayers } = await openModel(folder);
  const adapted = selectLayers(linearLayers, TARGETS[shape]);
  const numbers = ([rows, columns]: readonly [number, number], seed: number) =>
    Float32Array.from({ length: rows * columns }, (_, i) => 0.02 * Math.sin(i * 0.7 + seed));
  for (let index = 0; index < ADAPTERS; index++) {
    const layers = adapted.map(layer => {
      const { a, b } = loraShapes(layer, 8);
      return [layer.name, { a: numbers(a, index), b: numbers(b, index + 0.5) }];
    });
    await writeAdapter(adapterFolder(index), {
      ...{ rank: 8, alpha: 16, dropout: 0, baseModel: shape, linearLayers },
      layers: Object.fromEntries(layers),
    });
  }
}

/** Tokens of request `index`, all in the vocabulary of the tokenizer that the folder is given. No two requests are alike. */
const promptOf = (index: number): number[] =>
  Array.from({ length: prompt }, (_, i) => 4 + ((index * 101 + i * 7919) % 380));

// ---- this project

function parametersOf(index: number): GenerationParameters {
  return {
    prompt: { kind: 'tokens', tokens: promptOf(index) },
    n: 1,
    bestOf: 1,
    maxTokens: answer,
    // Neither end of turn nor end of text.
    sampling: { ...GREEDY, logitBias: { 0: -100, 2: -100 } },
    stop: [],
    form: null,
    // The random model's tokens mostly have no text: so each of them is an event all the same.
    topLogprobs: 0,
    echo: false,
    stream: true,
  };
}

function openService() {
  const options: ServiceOptions = {
    ...{ engine: 'onnx', device, precision: device === 'cuda' ? 'bfloat16' : 'float32', threads },
    ...{ modelBytes: 4e9, adapterBytes: 1e9, cacheBytes: 3e9 },
    widenedDirectory: join(folder, 'widened'),
  };
  const child = fork(join(root, 'src/serving/child.ts'), [JSON.stringify(options)], {
    serialization: 'advanced',
  });
  const listeners = new Map<number, (event: FromChild[number]['event']) => void>();
  child.on('message', (events: FromChild) => {
    for (const { id, event } of events) listeners.get(id)!(event);
  });
  let last = 0;
  /** -> seconds to the first token */
  const ask = (index: number, adapters: number) =>
    new Promise<number>((resolve, reject) => {
      last += 1;
      const start = performance.now();
      let first = 0;
      listeners.set(last, event => {
        if (event.type === 'piece') first ||= (performance.now() - start) / 1000;
        if (event.type === 'done') resolve(first);
        if (event.type === 'failed') reject(new Error(event.message));
      });
      const adapterDirectory = adapters > 0 ? adapterFolder(index % adapters) : null;
      const model = { id: `m${adapters}-${index}`, directory: folder, adapterDirectory };
      child.send({ type: 'generate', id: last, model, parameters: parametersOf(index) } satisfies ToChild);
    });
  return { child, ask };
}

/** Linux only: elsewhere 0. */
const memoryOf = async (pid: number): Promise<number> => {
  const maps = await readFile(`/proc/${pid}/smaps`, 'utf8').catch(() => '');
  const region = /^[\da-f]+-[\da-f]+ \S+ ([\da-f]+) \S+ (\d+) +(.*)\n(?:.*\n)*?Rss: +(\d+) kB/gm;
  const files = new Map<string, number>();
  let own = 0;
  for (const [, offset, inode, name, resident] of maps.matchAll(region)) {
    const part = `${offset} ${name}`;
    if (inode === '0') own += Number(resident);
    else files.set(part, Math.max(files.get(part) ?? 0, Number(resident)));
  }
  return 1024 * [...files.values()].reduce((sum, kilobytes) => sum + kilobytes, own);
};

async function measureOurs(): Promise<Results> {
  const cards = await watchCards();
  const { child, ask } = openService();
  const measured: Measured[] = [];
  for (const { requests, adapters } of cases) {
    const all: Measured[] = [];
    // The first round compiles programs.
    for (let round = 0; round <= rounds; round++) {
      const start = performance.now();
      const firsts = await Promise.all(Array.from({ length: requests }, (_, index) => ask(index, adapters)));
      const seconds = (performance.now() - start) / 1000;
      const firstToken = firsts.reduce((sum, one) => sum + one, 0) / requests;
      if (round > 0) all.push({ firstToken, tokensPerSecond: (requests * answer) / seconds });
    }
    measured.push(best(all));
  }
  const bytes = await memoryOf(child.pid!);
  child.disconnect();
  await once(child, 'exit');
  return { cases: measured, bytes, cardBytes: await cards.stop() };
}

// ---- transformers

const hasTransformers = () =>
  spawnSync(python, ['-c', 'import torch, transformers, peft'], { stdio: 'ignore' }).status === 0;

function measureTransformers(): Promise<Results> {
  const prompts = Array.from({ length: Math.max(...counts) }, (_, index) => promptOf(index));
  const adapters = Array.from({ length: ADAPTERS }, (_, index) => adapterFolder(index));
  const order = {
    ...{ folder, adapters, cases, prompts, answer, rounds, threads },
    device: torchDevice(device),
  };
  const script = join(import.meta.dirname, 'serve_transformers.py');
  return runContender(python, [script], JSON.stringify(order));
}

// ---- the table

/** Tokens a second that two cores were seen to make of 160 million parameters, by requests at once. */
const usualRate = (requests: number) => (requests === 1 ? 15 : 60);
const minutes = cases.reduce(
  (sum, { requests }) => sum + (2 * (rounds + 1) * requests * answer) / usualRate(requests) / 60,
  1,
);
console.log(
  `${shape}, prompts of ${prompt} and answers of ${answer} tokens on ${device}; about ${Math.ceil(minutes)} minutes on two cores`,
);
await makeServed();
const ours = await measureOurs();
const theirs = hasTransformers() ? await measureTransformers() : null;
console.log('requests  adapters   tokens/s  transformers  ratio   first token  transformers');
cases.forEach(({ requests, adapters }, i) => {
  const [own, other] = [ours.cases[i]!, theirs?.cases[i]];
  const cells = [
    String(requests).padStart(8),
    String(adapters || 'none').padStart(9),
    own.tokensPerSecond.toFixed(1).padStart(10),
    (other?.tokensPerSecond.toFixed(1) ?? '').padStart(13),
    (other ? (own.tokensPerSecond / other.tokensPerSecond).toFixed(2) : '').padStart(6),
    `${(1000 * own.firstToken).toFixed(0)} ms`.padStart(13),
    (other ? `${(1000 * other.firstToken).toFixed(0)} ms` : '').padStart(13),
  ];
  console.log(cells.join(' '));
});
const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`;
const memory = ({ bytes, cardBytes }: Results) =>
  cardBytes === null ? megabytes(bytes) : `${megabytes(bytes)} and ${megabytes(cardBytes)} of the card`;
console.log(`memory at the end ${memory(ours)}${theirs ? `, transformers ${memory(theirs)}` : ''}`);
if (values.json) {
  const order = { shape, prompt, answer, cases };
  await writeFile(values.json, JSON.stringify({ ...order, ours, transformers: theirs }, null, 2));
}
