// The generator against the golden models: caches, batches and adapters change nothing but the speed.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openCpuEngine } from '../../src/engine/cpu.ts';
import { openEngine } from '../../src/engine/engine.ts';
import type { Engine } from '../../src/engine/program.ts';
import type { Adapter } from '../../src/formats/peft.ts';
import { readHeader, readTensor } from '../../src/formats/safetensors.ts';
import { initialLora } from '../../src/models/lora.ts';
import { architectureOf, type Model, openModel } from '../../src/models/registry.ts';
import type { LoadedAdapter } from '../../src/serving/adapter-stack.ts';
import { loadAdapter, toLoaded } from '../../src/serving/adapters.ts';
import type { GenerationRequest } from '../../src/serving/answering.ts';
import { Generator } from '../../src/serving/generator.ts';
import type { TokenLogprob } from '../../src/serving/logprobs.ts';
import { GREEDY } from '../../src/serving/sampling.ts';
import { enginesUnderTest } from '../engine/engines.ts';

const golden = (name: string) => join(import.meta.dirname, '../golden', name);

interface Golden {
  batch: { tokens: number[][]; segments: number[][] };
}

/** Runs of the packed rows, each an example of its own: its tokens and the reference's logits after each of them. */
async function readExamples(name: string, logitsName: 'logits' | 'lora_logits') {
  const { batch } = JSON.parse(readFileSync(join(golden(name), 'golden.json'), 'utf8')) as Golden;
  const { tokens, segments } = batch;
  const { tensors } = await readHeader(join(golden(name), 'golden.safetensors'));
  const stored = tensors[logitsName]!;
  const [, length, vocab] = stored.shape as [number, number, number];
  const logits = await readTensor(stored);
  return segments.flatMap((row, r) =>
    [...new Set(row)]
      .filter(segment => segment >= 0)
      .map(segment => {
        const start = row.indexOf(segment);
        const end = row.lastIndexOf(segment) + 1;
        const rowAt = (i: number) => logits.subarray((r * length + i) * vocab, (r * length + i + 1) * vocab);
        return {
          tokens: tokens[r]!.slice(start, end),
          logits: Array.from({ length: end - start }, (_, i) => rowAt(start + i)),
        };
      }),
  );
}

function logSoftmax(logits: Float32Array): number[] {
  const values = [...logits];
  const largest = Math.max(...values);
  const total = largest + Math.log(values.reduce((sum, x) => sum + Math.exp(x - largest), 0));
  return values.map(x => x - total);
}

interface Ask extends Partial<GenerationRequest> {
  prompt: number[];
}

async function generate(generator: Generator, ask: Ask) {
  const tokens: number[] = [];
  const end = await generator.generate({
    adapter: null,
    maxTokens: 12,
    sampling: GREEDY,
    choice: 0,
    stopTokens: [],
    topLogprobs: null,
    ...ask,
    onToken(token, logprob) {
      tokens.push(token);
      return ask.onToken?.(token, logprob) ?? false;
    },
  });
  return { output: tokens, ...end };
}

/** Greedy without any cache: every token from a fresh reading of all before it. */
async function generateUncached(
  generator: Generator,
  prompt: number[],
  adapter: LoadedAdapter | null,
  count: number,
) {
  const tokens = [...prompt];
  for (let i = 0; i < count; i++) {
    const next = await generate(generator, { prompt: tokens, adapter, maxTokens: 1 });
    tokens.push(...next.output);
  }
  return tokens.slice(prompt.length);
}

const isCausal = (name: string): boolean =>
  existsSync(join(golden(name), 'golden.json')) &&
  architectureOf(JSON.parse(readFileSync(join(golden(name), 'config.json'), 'utf8'))).architecture.kind ===
    'causal';
const everyModel = readdirSync(golden('.')).filter(isCausal);
/** The plain engine is slow: one model of each kind. */
const RUNS: Record<string, readonly string[]> = { onnx: everyModel, cpu: ['mistral', 'qwen3', 'gpt2'] };
const engines = [await openCpuEngine(), ...(await enginesUnderTest())].filter(({ name }) => RUNS[name]);

describe.each(engines)('$name on $device', engine => {
  describe.each(RUNS[engine.name]!)('%s', name => {
    let model: Model;
    let generator: Generator;
    let adapter: LoadedAdapter;
    beforeAll(async () => {
      model = await openModel(golden(name));
      generator = new Generator(engine, model);
      adapter = await loadAdapter(model, 'golden', join(golden(name), 'adapter'));
    });
    afterAll(() => generator.close());

    test.each(['logits', 'lora_logits'] as const)(
      "a prompt's log-probabilities are transformers' (%s)",
      async kind => {
        for (const example of await readExamples(name, kind)) {
          const scores = await generator.score({
            tokens: example.tokens,
            adapter: kind === 'logits' ? null : adapter,
            topLogprobs: 3,
          });
          expect(scores.length).toBe(example.tokens.length - 1);
          scores.forEach((score, i) => {
            const expected = logSoftmax(example.logits[i]!);
            expect(score.token).toBe(example.tokens[i + 1]);
            expect(score.logprob).toBeCloseTo(expected[score.token]!, 4);
            const best = expected.toSorted((a, b) => b - a).slice(0, 3);
            score.top.forEach((each, k) => {
              expect(each.logprob).toBeCloseTo(best[k]!, 4);
            });
          });
        }
      },
    );

    test('greedy with the cache equals greedy without, base and adapter', async () => {
      const prompt = [5, 17, 3, 60, 22];
      for (const used of [null, adapter]) {
        const cached = await generate(generator, { prompt, adapter: used, maxTokens: 14 });
        expect(cached.output).toEqual(await generateUncached(generator, prompt, used, 14));
        expect(cached.finishReason).toBe('length');
      }
    });

    test('a batch of prompts and adapters gives what each gives alone', async () => {
      const asks: Ask[] = Array.from({ length: 7 }, (_, i) => ({
        prompt: Array.from({ length: 1 + ((i * 5) % 23) }, (_, k) => (7 * i + 11 * k + 1) % 96),
        adapter: i % 3 === 0 ? null : adapter,
        maxTokens: 3 + 4 * (i % 4),
      }));
      const together = await Promise.all(asks.map(ask => generate(generator, ask)));
      for (const [i, ask] of asks.entries()) {
        expect(together[i]).toEqual(await generate(generator, ask));
      }
    });
  });
});

describe('the scheduler', () => {
  let model: Model;
  let adapter: LoadedAdapter;
  let engine: Engine;
  const prompt = (seed: number, length: number) =>
    Array.from({ length }, (_, i) => 4 + ((seed * 31 + i * 17) % 350));
  beforeAll(async () => {
    engine = await openEngine({ engine: 'onnx', device: 'cpu', threads: 1 });
    model = await openModel(golden('llama-tiny'));
    adapter = toLoaded('random', randomAdapter(model));
  });

  test('long prompts, read in pieces beside others that go on, give what they give read at once', async () => {
    const whole = new Generator(engine, model);
    const pieces = new Generator(engine, model, { maxPiece: 16 });
    // 190 + 20 tokens: the cache grows from 128 to 256 on the way.
    const asks: Ask[] = [3, 60, 190, 17].map((length, i) => ({
      prompt: prompt(i, length),
      adapter: i % 2 === 0 ? adapter : null,
      maxTokens: 20,
    }));
    const together = await Promise.all(asks.map(ask => generate(pieces, ask)));
    for (const [i, ask] of asks.entries()) expect(together[i]).toEqual(await generate(whole, ask));
    const score = { tokens: prompt(9, 200), adapter, topLogprobs: 1 };
    const [inPieces, atOnce] = [await pieces.score(score), await whole.score(score)];
    expect(inPieces.length).toBe(199);
    inPieces.forEach((each, i) => {
      expect(each.logprob).toBeCloseTo(atOnce[i]!.logprob, 4);
    });
    await pieces.close();
    await whole.close();
  });

  test('prompts of all lengths that come at once, and later beside others, are answered as alone', async () => {
    const generator = new Generator(engine, model);
    // Runs of 512 tokens at most: of each length there are more than one takes, or fewer than it has rows for.
    const lengths = [130, 9, 40, 33, 20, 140, 7, 64, 150, 12, 28, 60, 5, 129, 16, 50];
    const asks: Ask[] = lengths.map((length, i) => ({
      prompt: prompt(i, length),
      adapter: i % 3 === 0 ? adapter : null,
      maxTokens: 6 + (i % 5),
    }));
    let later: Promise<unknown>[] = [];
    const onToken = () => {
      if (later.length === 0) later = asks.slice(8).map(ask => generate(generator, ask));
      return false;
    };
    const first = asks
      .slice(0, 8)
      .map((ask, i) => generate(generator, { ...ask, ...(i === 1 && { onToken }) }));
    const together = [...(await Promise.all(first)), ...(await Promise.all(later))];
    for (const [i, ask] of asks.entries()) expect(together[i]).toEqual(await generate(generator, ask));
    await generator.close();
  });

  test('more requests than rows wait and are served in order', async () => {
    const generator = new Generator(engine, model, { maxRows: 2 });
    const finished: number[] = [];
    const ends = await Promise.all(
      Array.from({ length: 7 }, async (_, i) => {
        const end = await generate(generator, { prompt: prompt(i, 4), maxTokens: 5 });
        finished.push(i);
        return end;
      }),
    );
    expect(finished).toEqual([0, 1, 2, 3, 4, 5, 6]);
    for (const [i, end] of ends.entries())
      expect(end).toEqual(await generate(generator, { prompt: prompt(i, 4), maxTokens: 5 }));
    await generator.close();
  });

  test('a cache budget for one sequence admits one at a time', async () => {
    const generator = new Generator(engine, model, { cacheBytes: 1 });
    const active = new Set<number>();
    let most = 0;
    await Promise.all(
      [0, 1, 2].map(async i => {
        await generate(generator, {
          prompt: prompt(i, 4),
          maxTokens: 4,
          onToken: () => {
            active.add(i);
            most = Math.max(most, active.size);
            return false;
          },
        });
        active.delete(i);
      }),
    );
    expect(most).toBe(1);
    await generator.close();
  });

  test('ends at a stop token, where the caller says so, and where the context is full', async () => {
    const generator = new Generator(engine, model);
    const free = await generate(generator, { prompt: prompt(1, 5), maxTokens: 9 });
    const stopToken = free.output[4]!;
    const first = free.output.indexOf(stopToken);
    const stopped = await generate(generator, {
      prompt: prompt(1, 5),
      maxTokens: 9,
      stopTokens: [stopToken],
    });
    expect(stopped).toEqual({ output: free.output.slice(0, first), finishReason: 'stop', tokens: first + 1 });
    let seen = 0;
    const told = await generate(generator, {
      prompt: prompt(1, 5),
      maxTokens: 9,
      onToken: () => ++seen === 3,
    });
    expect(told).toEqual({ output: free.output.slice(0, 3), finishReason: 'stop', tokens: 3 });
    const full = await generate(generator, { prompt: prompt(2, 250), maxTokens: 100 });
    expect(full).toMatchObject({ finishReason: 'length', tokens: 6 });
    expect(() => generator.generate({ prompt: prompt(2, 256) } as never)).toThrow(RangeError);
    await generator.close();
  });

  test('log-probabilities of generated tokens equal those of reading the text again', async () => {
    const generator = new Generator(engine, model);
    const given: TokenLogprob[] = [];
    const { output } = await generate(generator, {
      prompt: prompt(3, 6),
      adapter,
      topLogprobs: 2,
      sampling: { ...GREEDY, temperature: 1.5, seed: 3 },
      onToken: (_, logprob) => {
        given.push(logprob!);
        return false;
      },
    });
    const scores = await generator.score({ tokens: [...prompt(3, 6), ...output], adapter, topLogprobs: 2 });
    scores.slice(5).forEach((score, i) => {
      expect(given[i]!.token).toBe(output[i]);
      expect(given[i]!.logprob).toBeCloseTo(score.logprob, 4);
      expect(given[i]!.top.map(each => each.token)).toEqual(score.top.map(each => each.token));
    });
    await generator.close();
  });

  test('the most probable token is the same where logits are read and where they are not, in one batch', async () => {
    const generator = new Generator(engine, model);
    const asks = [
      { topLogprobs: null },
      { topLogprobs: 1 },
      { sampling: { ...GREEDY, temperature: 2, seed: 5 } },
    ];
    const ask = (i: number, more: object) =>
      generate(generator, { prompt: prompt(i, 6), adapter, ...more }).then(({ output }) => output);
    const mixed = await Promise.all(asks.map(more => ask(4, more)));
    expect(mixed[0]).toEqual(mixed[1]);
    expect(mixed[2]).not.toEqual(mixed[0]);
    expect(await ask(4, {})).toEqual(mixed[0]);
    await generator.close();
  });

  test('the same seed gives the same tokens, alone or in a batch', async () => {
    const generator = new Generator(engine, model);
    const ask = { prompt: prompt(5, 7), sampling: { ...GREEDY, temperature: 1, seed: 77 } };
    const alone = await generate(generator, ask);
    const [again, other, ...rest] = await Promise.all([
      generate(generator, ask),
      generate(generator, { ...ask, choice: 1 }),
      generate(generator, { prompt: prompt(6, 3) }),
    ]);
    expect(again).toEqual(alone);
    expect(other!.output).not.toEqual(alone.output);
    expect(rest.length).toBe(1);
    await generator.close();
  });

  test('an aborted request leaves at once, running or waiting, and the others go on', async () => {
    const generator = new Generator(engine, model, { maxRows: 2 });
    const running = new AbortController();
    const waiting = new AbortController();
    let tokens = 0;
    const results = await Promise.allSettled([
      generate(generator, {
        prompt: prompt(1, 4),
        maxTokens: 200,
        signal: running.signal,
        onToken: () => {
          if (++tokens === 3) running.abort(new Error('gone'));
          if (tokens === 2) waiting.abort(new Error('left'));
          return false;
        },
      }),
      generate(generator, { prompt: prompt(2, 4), maxTokens: 30 }),
      generate(generator, { prompt: prompt(3, 4), maxTokens: 30, signal: waiting.signal }),
    ]);
    expect(results.map(result => result.status)).toEqual(['rejected', 'fulfilled', 'rejected']);
    expect((results[0] as PromiseRejectedResult).reason.message).toBe('gone');
    expect((results[2] as PromiseRejectedResult).reason.message).toBe('left');
    expect(tokens).toBe(3);
    await generator.close();
  });

  test('closing ends what is running with an error', async () => {
    const generator = new Generator(engine, model);
    const running = generate(generator, { prompt: prompt(1, 4), maxTokens: 200 });
    const scoring = generator.score({ tokens: prompt(1, 40), adapter: null, topLogprobs: 0 });
    const outcome = Promise.allSettled([running, scoring]);
    await generator.close();
    expect((await outcome).map(({ status }) => status)).toContain('rejected');
    expect(generator.load).toBe(0);
  });
});

function randomAdapter(model: Model): Adapter {
  let seed = 1;
  const uniform = () => {
    seed = (seed * 48271) % 2147483647;
    return seed / 2147483647;
  };
  const layers = model.linearLayers
    .filter(layer => layer.name.endsWith('_proj'))
    .map(layer => {
      const { a } = initialLora(layer, 4, uniform);
      const b = Float32Array.from({ length: layer.outFeatures * 4 }, () => (uniform() - 0.5) * 2);
      return [layer.name, { a, b }] as const;
    });
  return { rank: 4, alpha: 8, scale: 2, dropout: 0, baseModel: null, layers: Object.fromEntries(layers) };
}
