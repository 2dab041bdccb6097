// Answers of encoder-decoders, greedy and searched for with beams: those of transformers' generate, whatever else is in the batch.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readAdapter } from '../../src/formats/peft.ts';
import { openModel } from '../../src/models/registry.ts';
import { toLoaded } from '../../src/serving/adapters.ts';
import { Generator } from '../../src/serving/generator.ts';
import { GREEDY } from '../../src/serving/sampling.ts';
import { enginesUnderTest } from '../engine/engines.ts';
import { goldenDirectory } from '../models/golden.ts';

interface Generation {
  source: number[];
  search: { num_beams: number; length_penalty?: number; early_stopping?: boolean | 'never' };
  max_tokens: number;
  /** Best first, up to and with the end. */
  answers: number[][];
  scores: number[];
}

const EOS = 2;
const MODELS = ['t5', 't5-v1.1', 'bart', 'marian', 'marian-two'];

const generationsOf = (name: string): Generation[] =>
  JSON.parse(readFileSync(join(goldenDirectory(name), 'golden.json'), 'utf8')).generations;

const request = ({ source, max_tokens }: Generation) => ({
  prompt: source,
  adapter: null,
  maxTokens: max_tokens,
  stopTokens: [EOS],
  topLogprobs: null,
});

async function greedy(generator: Generator, asked: Generation): Promise<number[]> {
  const tokens: number[] = [];
  const { finishReason } = await generator.generate({
    ...request(asked),
    sampling: GREEDY,
    choice: 0,
    onToken: token => tokens.push(token) < 0,
  });
  return finishReason === 'stop' ? [...tokens, EOS] : tokens;
}

const searchFor = (generator: Generator, asked: Generation) =>
  generator.search({
    ...request(asked),
    search: {
      beams: asked.search.num_beams,
      lengthPenalty: asked.search.length_penalty ?? 1,
      earlyStopping: asked.search.early_stopping ?? false,
    },
  });

describe.each(await enginesUnderTest())('$name on $device', engine => {
  test.each(MODELS)('%s answers as transformers, all requests at once', async name => {
    const generator = new Generator(engine, await openModel(goldenDirectory(name)));
    const generations = generationsOf(name);
    await Promise.all(
      generations.map(async asked => {
        if (asked.search.num_beams === 1) {
          expect(await greedy(generator, asked)).toEqual(asked.answers[0]);
          return;
        }
        const found = await searchFor(generator, asked);
        const tokens = found.map(({ written, finishReason }) => [
          ...written.map(({ token }) => token),
          ...(finishReason === 'stop' ? [EOS] : []),
        ]);
        expect(tokens, JSON.stringify(asked.search)).toEqual(asked.answers);
        found.forEach(({ score }, i) => {
          expect(Math.abs(score / asked.scores[i]! - 1)).toBeLessThan(1e-4);
        });
      }),
    );
    await generator.close();
  });
});

const [engine] = await enginesUnderTest();

test.each(MODELS)('%s: one request at a time gives what all at once give', async name => {
  const generator = new Generator(engine!, await openModel(goldenDirectory(name)));
  for (const asked of generationsOf(name).slice(6, 12)) {
    const found = await searchFor(generator, asked);
    const best = found[0]!.written.map(({ token }) => token);
    expect(best).toEqual(asked.answers[0]!.filter(token => token !== EOS));
  }
  await generator.close();
});

/** What the model says comes next, each time reading the source and all of the answer so far anew, without a cache. */
async function withoutCache(generator: Generator, asked: Generation, start: number): Promise<number[]> {
  const tokens = [start];
  while (tokens.length <= asked.max_tokens && tokens.at(-1) !== EOS) {
    const scores = await generator.score({
      source: asked.source,
      tokens: [...tokens, 0],
      adapter: null,
      topLogprobs: 1,
    });
    tokens.push(scores.at(-1)!.top[0]!.token);
  }
  return tokens.slice(1);
}

test.each(['t5', 't5-v1.1', 'bart', 'marian'])('%s: greedy with the caches is greedy without', async name => {
  const generator = new Generator(engine!, await openModel(goldenDirectory(name)));
  for (const asked of generationsOf(name).filter(({ search }) => search.num_beams === 1))
    expect(await greedy(generator, asked)).toEqual(await withoutCache(generator, asked, 3));
  await generator.close();
});

test.each(['t5-v1.1', 'bart'])('%s: rows with an adapter and rows without, in one batch', async name => {
  const model = await openModel(goldenDirectory(name));
  const adapter = toLoaded(
    'a',
    await readAdapter(join(goldenDirectory(name), 'adapter'), model.linearLayers),
  );
  const generator = new Generator(engine!, model);
  const asked = generationsOf(name).filter(({ search }) => search.num_beams === 1);
  const ask = (each: Generation, own: typeof adapter | null) =>
    generator.search({
      ...request(each),
      adapter: own,
      search: { beams: 2, lengthPenalty: 1, earlyStopping: false },
    });
  const together = await Promise.all(asked.flatMap(each => [ask(each, adapter), ask(each, null)]));
  const alone = [];
  for (const each of asked) alone.push(await ask(each, adapter), await ask(each, null));
  const tokens = (found: typeof together) =>
    found.map(answers => answers.map(({ written }) => written.map(({ token }) => token)));
  expect(tokens(together)).toEqual(tokens(alone));
  expect(tokens(alone)[0]).not.toEqual(tokens(alone)[1]);
  await generator.close();
});

test('a source as long as the model takes is read, a longer one refused', async () => {
  const generator = new Generator(engine!, await openModel(goldenDirectory('bart')));
  const asked = { ...generationsOf('bart')[0]!, source: Array.from({ length: 64 }, (_, i) => 4 + i) };
  expect(await greedy(generator, asked)).not.toEqual([]);
  expect(() =>
    generator.generate({ ...request({ ...asked, source: [...asked.source, 4] }) } as never),
  ).toThrow('a prompt of 65 tokens in a model of 64 positions');
  await generator.close();
});
