// Who sees whom in a packed row: the mask written out, and that what is in one example never reaches another.
import { beforeAll, expect, test } from 'vitest';
import { openCpuEngine } from '../../src/engine/cpu.ts';
import { tf } from '../../src/engine/tf.ts';
import { packedMask } from '../../src/models/packed.ts';
import { openModel } from '../../src/models/registry.ts';
import { goldenDirectory, readGolden, runHidden, runLogits } from './golden.ts';

beforeAll(() => void tf.setBackend('cpu'));

/** `x` where the token of the line sees the token of the column. */
function drawn(segments: number[], window: number | null, bothWays = false): string[] {
  const mask = packedMask(tf.tensor2d([segments], undefined, 'int32'), { window, bothWays });
  expect(mask.shape).toEqual([1, segments.length, segments.length]);
  const [lines] = mask.arraySync() as number[][][];
  return lines!.map(line => line.map(score => (score === 0 ? 'x' : '.')).join(''));
}

test('a token sees itself and what came before in its own example', () => {
  expect(drawn([0, 0, 0, 1, 1, -1], null)).toEqual([
    'x.....', //
    'xx....',
    'xxx...',
    '...x..',
    '...xx.',
    '.....x',
  ]);
});

test('a window ends that many tokens back, the token itself counted', () => {
  expect(drawn([0, 0, 0, 0, 1, 1], 2)).toEqual([
    'x.....', //
    'xx....',
    '.xx...',
    '..xx..',
    '....x.',
    '....xx',
  ]);
});

test('an encoder sees all of its example, or as far ahead as back', () => {
  expect(drawn([0, 0, 0, 1, 1, -1], null, true)).toEqual([
    'xxx...', //
    'xxx...',
    'xxx...',
    '...xx.',
    '...xx.',
    '.....x',
  ]);
  expect(drawn([0, 0, 0, 0, 1, 1], 2, true)).toEqual([
    'xx....', //
    'xxx...',
    '.xxx..',
    '..xx..',
    '....xx',
    '....xx',
  ]);
});

test.each(['mistral', 'gpt2', 'falcon-7b', 'mixtral', 'gemma2', 'cohere', 'bert', 'roberta', 'modernbert'])(
  '%s: changing one example changes no other, bit for bit',
  async name => {
    const model = await openModel(goldenDirectory(name));
    const { batch } = await readGolden(name);
    const changed = {
      ...batch,
      tokens: batch.tokens.map(row => row.map((t, i) => (i < 10 ? (t + 1) % 96 : t))),
    };
    const engine = await openCpuEngine();
    const run = model.kind === 'encoder' ? runHidden : runLogits;
    const before = await run(engine, model, batch);
    const after = await run(engine, model, changed);
    // The first example of the first row is its first 10 tokens; two others follow it.
    const width = before.length / batch.tokens.flat().length;
    const rest = (numbers: Float32Array) => numbers.slice(10 * width, 24 * width);
    expect(rest(after)).toEqual(rest(before));
    expect(after.slice(0, 10 * width)).not.toEqual(before.slice(0, 10 * width));
  },
);
