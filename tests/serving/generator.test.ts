// The generator against the golden models: caches, batches and adapters change nothing but the speed.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openEngine } from '../../src/engine/engine.ts';
import type { Engine } from '../../src/engine/program.ts';
import { readHeader, readTensor } from '../../src/formats/safetensors.ts';
import { type Model, openModel } from '../../src/models/registry.ts';
import type { LoadedAdapter } from '../../src/serving/adapter-stack.ts';
import { loadAdapter } from '../../src/serving/adapters.ts';
import { type GenerationRequest, Generator } from '../../src/serving/generator.ts';
import { GREEDY } from '../../src/serving/sampling.ts';

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

const MODELS = ['llama2', 'llama3', 'mistral', 'qwen2', 'qwen3', 'gpt2', 'llama-bias', 'gpt2-scaled'];

describe.each(['cpu', 'onnx'] as const)('on the %s engine', engineName => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await openEngine({ engine: engineName, device: 'cpu', threads: 1 });
  });

  describe.each(MODELS)('%s', name => {
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
