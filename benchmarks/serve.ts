// Generation against transformers' generate: time to the first token, and tokens per second with 1, 8 and 32 requests at once, on the base
// model and on 8 adapters: `node benchmarks/serve.ts [--shape llama-160m] [--requests 1,8,32] [--adapters 0,8] [--prompt 64] [--answer 64]
// [--lengths equal|mixed] [--quantization none,int16,int8] [--device cuda] [--json file]`. It says first how long it will take. Ours is the
// generation process as the api talks to it, one for each kind of base weights. transformers gets all requests as one batch, adapters by PEFT's `adapter_names`. With equal lengths that is its best case;
// with mixed ones twice as many requests are asked, and a place that is free is taken by the next (ours) or waits for the whole batch
// (transformers). Both answer greedily, and the answers are compared; in few bits they are expected to differ. PYTHON names a Python with torch, transformers and peft.
import { fork, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { loadTokenizer } from '../src/data/tokenizer.ts';
import { computingEnvironment } from '../src/engine/environment.ts';
import type { FromChild, GenerationParameters, ServiceOptions, ToChild } from '../src/serving/protocol.ts';
import { GREEDY } from '../src/serving/sampling.ts';
import { parseDevice, runContender, torchDevice, watchCards } from './contender.ts';
import { makeServed } from './serve-model.ts';
import type { ShapeName } from './train-model.ts';

type Kind = NonNullable<ServiceOptions['quantization']>;

const { values } = parseArgs({
  options: {
    shape: { type: 'string', default: 'llama-160m' },
    requests: { type: 'string', default: '1,8,32' },
    adapters: { type: 'string', default: '0,8' },
    prompt: { type: 'string', default: '64' },
    answer: { type: 'string', default: '64' },
    lengths: { type: 'string', default: 'equal' },
    rounds: { type: 'string', default: '3' },
    quantization: { type: 'string', default: 'none' },
    device: { type: 'string', default: 'cpu' },
    json: { type: 'string' },
    threads: { type: 'string', default: String(availableParallelism()) },
  },
});
const numbersOf = (list: string): number[] => list.split(',').map(Number);
const shape = values.shape as ShapeName;
const device = parseDevice(values.device);
const [prompt, answer, rounds, threads] = [values.prompt, values.answer, values.rounds, values.threads].map(
  Number,
) as [number, number, number, number];
const kinds = values.quantization.split(',') as Kind[];
const python = process.env.PYTHON ?? 'python3';
const root = join(import.meta.dirname, '..');

// ---- what is asked

interface Asked {
  readonly tokens: readonly number[];
  /** Tokens of its answer. */
  readonly answer: number;
  /** Null: the base model. */
  readonly adapter: number | null;
}

interface Case {
  /** Requests at once. */
  readonly requests: number;
  /** 0: the base model. */
  readonly adapters: number;
  readonly asked: readonly Asked[];
}

/** Shares of the longest prompt and of the longest answer, by request; every pair comes up once in sixteen. */
const SHARES = [1, 0.25, 0.75, 0.5];
const mixed = values.lengths === 'mixed';
const share = (index: number): number => (mixed ? SHARES[index % SHARES.length]! : 1);

/** No two requests are alike; their tokens are texts of the tokenizer. */
function ask(index: number, adapters: number): Asked {
  const length = Math.ceil(prompt * share(index));
  return {
    tokens: Array.from({ length }, (_, i) => 4 + ((index * 101 + i * 7919) % 380)),
    answer: Math.ceil(answer * share(1 + index + Math.floor(index / SHARES.length))),
    adapter: adapters > 0 ? index % adapters : null,
  };
}

const cases: Case[] = numbersOf(values.requests).flatMap(requests =>
  numbersOf(values.adapters).map(most => {
    const adapters = Math.min(most, requests);
    const count = mixed ? 2 * requests : requests;
    const asked = Array.from({ length: count }, (_, index) => ask(index, adapters));
    return { requests, adapters, asked };
  }),
);
const tokensOf = ({ asked }: Case): number => asked.reduce((sum, { answer }) => sum + answer, 0);
const { folder, adapters } = await makeServed(shape, Math.max(...cases.map(({ adapters }) => adapters)));

interface Measured {
  /** Seconds from the request to its first token, the mean over the requests that are asked first. */
  readonly firstToken: number;
  readonly tokensPerSecond: number;
}

/** The best round of each case, and the memory that the process has at the end, pages of files counted once. */
interface Results {
  readonly cases: Measured[];
  /** By case and request. */
  readonly texts: string[][];
  readonly bytes: number;
  /** The most of the card's; null without one. */
  readonly cardBytes: number | null;
}

const best = (all: readonly Measured[]): Measured =>
  all.reduce((best, one) => (one.tokensPerSecond > best.tokensPerSecond ? one : best));

// ---- this project

const parametersOf = ({ tokens, answer }: Asked): GenerationParameters => ({
  prompt: { kind: 'tokens', tokens: [...tokens] },
  ...{ n: 1, bestOf: 1, maxTokens: answer, sampling: GREEDY, stop: [], form: null },
  ...{ topLogprobs: null, echo: false, stream: true },
});

interface Answered {
  readonly firstToken: number;
  readonly text: string;
}

function openService(quantization: Kind) {
  const options: ServiceOptions = {
    ...{ engine: 'onnx', device, precision: device === 'cuda' ? 'bfloat16' : 'float32', threads },
    ...{ modelBytes: 4e9, adapterBytes: 1e9, cacheBytes: 3e9 },
    ...{ cacheDirectory: folder, quantization },
  };
  const child = fork(join(root, 'src/serving/child.ts'), [JSON.stringify(options)], {
    serialization: 'advanced',
    env: computingEnvironment(),
  });
  const listeners = new Map<number, (event: FromChild[number]['event']) => void>();
  child.on('message', (events: FromChild) => {
    for (const { id, event } of events)
      if (event.type === 'notice') console.log(`${event.message}: ${JSON.stringify(event.details)}`);
      else listeners.get(id)!(event);
  });
  let last = 0;
  const ask = (asked: Asked) =>
    new Promise<Answered>((resolve, reject) => {
      last += 1;
      const start = performance.now();
      let [firstToken, text] = [0, ''];
      listeners.set(last, event => {
        if (event.type === 'piece') {
          firstToken ||= (performance.now() - start) / 1000;
          text += event.text;
        }
        if (event.type === 'failed') reject(new Error(event.message));
        if (event.type !== 'done') return;
        if (event.completionTokens === asked.answer) resolve({ firstToken, text });
        else reject(new Error(`${event.completionTokens} tokens instead of ${asked.answer}`));
      });
      const adapterDirectory = asked.adapter === null ? null : adapters[asked.adapter]!;
      const model = { id: `adapter ${asked.adapter}`, directory: folder, adapterDirectory };
      child.send({ type: 'generate', id: last, model, parameters: parametersOf(asked) } satisfies ToChild);
    });
  return { child, ask };
}

/** All requests of a case, so many at once as it says. */
async function askAll(
  { requests, asked }: Case,
  ask: (asked: Asked) => Promise<Answered>,
): Promise<Answered[]> {
  const answers: Answered[] = [];
  let next = 0;
  const askOn = async (): Promise<void> => {
    for (let index = next++; index < asked.length; index = next++) answers[index] = await ask(asked[index]!);
  };
  await Promise.all(Array.from({ length: requests }, askOn));
  return answers;
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

async function measureOurs(quantization: Kind): Promise<Results> {
  const cards = await watchCards();
  const { child, ask } = openService(quantization);
  const measured: Measured[] = [];
  const texts: string[][] = [];
  for (const one of cases) {
    const all: Measured[] = [];
    // The first round compiles programs.
    for (let round = 0; round <= rounds; round++) {
      const start = performance.now();
      const answers = await askAll(one, ask);
      const seconds = (performance.now() - start) / 1000;
      const first = answers.slice(0, one.requests);
      const firstToken = first.reduce((sum, { firstToken }) => sum + firstToken, 0) / one.requests;
      if (round > 0) all.push({ firstToken, tokensPerSecond: tokensOf(one) / seconds });
      else texts.push(answers.map(({ text }) => text));
    }
    measured.push(best(all));
  }
  const bytes = await memoryOf(child.pid!);
  child.disconnect();
  await once(child, 'exit');
  return { cases: measured, texts, bytes, cardBytes: await cards.stop() };
}

// ---- transformers

const hasTransformers = () =>
  spawnSync(python, ['-c', 'import torch, transformers, peft'], { stdio: 'ignore' }).status === 0;

async function measureTransformers(): Promise<Results> {
  const order = { folder, adapters, cases, rounds, threads, device: torchDevice(device) };
  const script = join(import.meta.dirname, 'serve_transformers.py');
  const found = await runContender<Omit<Results, 'texts'> & { tokens: number[][][] }>(
    python,
    [script],
    JSON.stringify(order),
  );
  const tokenizer = await loadTokenizer(folder);
  return { ...found, texts: found.tokens.map(answers => answers.map(tokens => tokenizer.decode(tokens))) };
}

// ---- the table

/** Tokens a second that two cores were seen to make of 160 million parameters, by requests at once. */
const usualRate = (requests: number) => (requests === 1 ? 30 : 100);
const minutes = cases.reduce(
  (sum, one) => sum + ((kinds.length + 1) * (rounds + 1) * tokensOf(one)) / usualRate(one.requests) / 60,
  0.5,
);
const upTo = mixed ? 'up to ' : '';
console.log(
  `${shape}, prompts of ${upTo}${prompt} and answers of ${upTo}${answer} tokens on ${device}; about ${Math.ceil(minutes)} minutes on two cores`,
);
const theirs = hasTransformers() ? await measureTransformers() : null;
const ours = new Map<Kind, Results>();
for (const kind of kinds) ours.set(kind, await measureOurs(kind));

/** The part of a text before it becomes another one. */
function shareInCommon(text: string, other: string): number {
  const first = Array.from(text).findIndex((character, i) => character !== other[i]);
  return first < 0 ? 1 : first / text.length;
}

/** How many answers are the same, token by token, and how much of an answer is before the first difference. */
function alike(texts: readonly string[], others: readonly string[]): string {
  const same = texts.filter((text, i) => text === others[i]).length;
  const shares = texts.map((text, i) => shareInCommon(text, others[i]!));
  const share = shares.reduce((sum, each) => sum + each, 0) / shares.length;
  return `${same} of ${texts.length}, ${(100 * share).toFixed(0)}%`;
}

const HEAD = 'requests  adapters  weights   tokens/s  transformers  ratio   first token  transformers';
console.log(`${HEAD}    same answers, up to a difference`);
cases.forEach(({ requests, adapters }, i) => {
  const other = theirs?.cases[i];
  for (const [kind, { cases, texts }] of ours) {
    const own = cases[i]!;
    const cells = [
      String(requests).padStart(8),
      String(adapters || 'none').padStart(9),
      (kind === 'none' ? 'full' : kind).padStart(8),
      own.tokensPerSecond.toFixed(1).padStart(10),
      (other?.tokensPerSecond.toFixed(1) ?? '').padStart(13),
      (other ? (own.tokensPerSecond / other.tokensPerSecond).toFixed(2) : '').padStart(6),
      `${(1000 * own.firstToken).toFixed(0)} ms`.padStart(13),
      (other ? `${(1000 * other.firstToken).toFixed(0)} ms` : '').padStart(13),
      (theirs ? alike(texts[i]!, theirs.texts[i]!) : '').padStart(16),
    ];
    console.log(cells.join(' '));
  }
});
const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`;
const memory = ({ bytes, cardBytes }: Results) =>
  cardBytes === null ? megabytes(bytes) : `${megabytes(bytes)} and ${megabytes(cardBytes)} of the card`;
const memories = [...ours].map(([kind, results]) => `${kind === 'none' ? 'full' : kind} ${memory(results)}`);
if (theirs) memories.push(`transformers ${memory(theirs)}`);
console.log(`memory at the end: ${memories.join(', ')}`);
if (values.json) {
  const order = { shape, prompt, answer, lengths: values.lengths };
  const rows = cases.map(({ requests, adapters }) => ({ requests, adapters }));
  const measured = { ...order, cases: rows, ours: Object.fromEntries(ours), transformers: theirs };
  await writeFile(values.json, JSON.stringify(measured, null, 2));
}
