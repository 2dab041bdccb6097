// Measures the latency of the api, GET /v1/models, while idle and while many streams generate. Starts the whole service
// on a temporary data folder. Usage: node benchmarks/serve-latency.ts [llama-160m | gpt2-124m] [streams] [seconds]
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import OpenAI from 'openai';
import { makeModel, type ShapeName } from './train-model.ts';

const [shape = 'llama-160m', streams = '8', seconds = '10'] = process.argv.slice(2);
const KEY = 'sk-benchmark-0123456789';
const root = join(import.meta.dirname, '..');

/** Starts the service with the model. */
async function startService(folder: string): Promise<{ url: string; stop(): Promise<void> }> {
  const child = spawn(process.execPath, [join(root, 'src/main.ts'), 'start'], {
    cwd: folder,
    env: {
      ...process.env,
      PORT: '0',
      ANNEAL_DATA_DIR: join(folder, 'data'),
      ANNEAL_MODELS_DIR: join(folder, 'models'),
      ANNEAL_API_KEY: KEY,
      ANNEAL_LOG_LEVEL: 'warn',
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const lines = createInterface({ input: child.stderr });
  const address = await new Promise<string>((resolve, reject) => {
    lines.on('line', line => {
      const found = /listening on (http\S+)/.exec(line)?.[1];
      if (found) resolve(found);
      else console.error(line);
    });
    child.once('exit', () => reject(new Error('the service has not started')));
  });
  return {
    url: address,
    async stop() {
      child.kill('SIGTERM');
      await once(child, 'exit');
    },
  };
}

/**
 * Makes a folder with the random model and a tokenizer that fits its vocabulary; the weights are made once and kept.
 */
async function makeServedModel(folder: string): Promise<void> {
  const kept = join(tmpdir(), 'anneal-benchmark', shape);
  await mkdir(kept, { recursive: true });
  await makeModel(kept, shape as ShapeName);
  for (const name of ['tokenizer.json', 'tokenizer_config.json'])
    await cp(join(root, 'tests/golden/llama-tiny', name), join(kept, name));
  await mkdir(join(folder, 'models'));
  await symlink(kept, join(folder, 'models', shape));
}

/** Milliseconds of sequential requests, 10 ms apart. */
async function probe(client: OpenAI, forMs: number): Promise<number[]> {
  const times: number[] = [];
  for (const end = performance.now() + forMs; performance.now() < end; ) {
    const start = performance.now();
    await client.models.list();
    times.push(performance.now() - start);
    await new Promise(resolve => setTimeout(resolve, 10));
  }
  return times.sort((a, b) => a - b);
}

interface Load {
  tokens(): number;
  stop(): Promise<void>;
}

function generate(client: OpenAI): Load {
  const controller = new AbortController();
  let tokens = 0;
  const endless = async (seed: number): Promise<void> => {
    while (!controller.signal.aborted) {
      const body = {
        model: shape,
        messages: [{ role: 'user' as const, content: `Tell me story number ${seed}.` }],
        max_completion_tokens: 200,
        seed,
        // The random model's tokens mostly have no text: with log-probabilities each of them is an event all the same.
        logprobs: true,
      };
      const stream = await client.chat.completions.create(
        { ...body, stream: true },
        { signal: controller.signal },
      );
      for await (const chunk of stream) tokens += chunk.choices[0]?.logprobs?.content?.length ?? 0;
    }
  };
  const running = Array.from({ length: Number(streams) }, (_, seed) => endless(seed).catch(() => undefined));
  return {
    tokens: () => tokens,
    async stop() {
      controller.abort();
      await Promise.all(running);
    },
  };
}

const at = (sorted: readonly number[], share: number): string =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!.toFixed(1);

const folder = await mkdtemp(join(tmpdir(), 'anneal-latency-'));
try {
  await makeServedModel(folder);
  const service = await startService(folder);
  const client = new OpenAI({ apiKey: KEY, baseURL: `${service.url}/v1`, maxRetries: 0 });
  try {
    const rows: Record<string, string | number>[] = [];
    const measure = async (name: string, load: Load | null): Promise<void> => {
      const before = load?.tokens() ?? 0;
      const times = await probe(client, Number(seconds) * 1000);
      const rate = ((load?.tokens() ?? 0) - before) / Number(seconds);
      rows.push({
        while: name,
        requests: times.length,
        p50: at(times, 0.5),
        p90: at(times, 0.9),
        p99: at(times, 0.99),
        max: at(times, 1),
        'tokens/s': rate.toFixed(0),
      });
    };
    await probe(client, 2000);
    await measure('idle', null);
    const load = generate(client);
    // Until every program that the batch needs is compiled.
    while (load.tokens() < 8 * Number(streams)) await new Promise(resolve => setTimeout(resolve, 100));
    await measure(`${streams} streams`, load);
    await load.stop();
    await measure('idle again', null);
    console.log(
      `${shape}, ${availableParallelism()} cores, load average ${loadavg()[0]!.toFixed(1)}; ms of GET /v1/models`,
    );
    console.table(rows);
  } finally {
    await service.stop();
  }
} finally {
  await rm(folder, { recursive: true, force: true, maxRetries: 10 });
}
