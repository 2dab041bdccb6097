// Encoder-decoders beyond what every architecture is held to: who sees which source, distances, and copies in files.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openCpuEngine } from '../../src/engine/cpu.ts';
import { openModel, requireCausal, requireEncoderDecoder } from '../../src/models/registry.ts';
import { distanceBuckets } from '../../src/models/t5.ts';
import { changeTensors, copyGolden } from './folders.ts';
import { goldenDirectory, readGolden, runLogits } from './golden.ts';

/** Answers of the first row's examples begin here and end before the next; see LAYOUTS in tests/golden/seq2seq.py. */
const ANSWERS = [0, 4, 13, 18];
const FIRST_SOURCE = 10;
const VOCAB = 96;

test.each(['t5', 'bart', 'marian'])(
  '%s: changing one source changes its own answer and no other, bit for bit',
  async name => {
    const model = await openModel(goldenDirectory(name));
    const { batch } = await readGolden(name);
    const changed = {
      ...batch,
      sourceTokens: batch.sourceTokens!.map((row, at) =>
        at === 0 ? row.map((t, i) => (i < FIRST_SOURCE ? (t + 1) % VOCAB : t)) : row,
      ),
    };
    const engine = await openCpuEngine();
    const before = await runLogits(engine, model, batch);
    const after = await runLogits(engine, model, changed);
    const [start, end] = [ANSWERS[1]! * VOCAB, ANSWERS[3]! * VOCAB];
    expect(after.slice(start, end)).toEqual(before.slice(start, end));
    expect(after.slice(0, start)).not.toEqual(before.slice(0, start));
  },
);

interface DistanceBuckets {
  buckets: number;
  max_distance: number;
  found: number[];
}

const golden = JSON.parse(readFileSync(join(goldenDirectory('t5'), 'golden.json'), 'utf8'));

test.each(golden.distance_buckets as DistanceBuckets[])(
  'distances up to $max_distance fall into $buckets buckets as in transformers',
  ({ buckets, max_distance, found }) => {
    expect(distanceBuckets(buckets, max_distance)).toEqual(found);
  },
);

test('a T5 whose files hold its embedding under other names only', async () => {
  const directory = await copyGolden('t5');
  const original = await openModel(directory);
  await changeTensors(join(directory, 'model.safetensors'), tensors => {
    delete tensors['shared.weight'];
    delete tensors['decoder.embed_tokens.weight'];
  });
  const { weights, outputWeight } = await openModel(directory);
  expect(outputWeight).toBe('shared.weight');
  expect(weights['shared.weight']!.sizeBytes).toBe(original.weights['shared.weight']!.sizeBytes);
});

test('copies of an embedding that differ from it are refused', async () => {
  const directory = await copyGolden('t5');
  await changeTensors(join(directory, 'model.safetensors'), tensors => {
    const data = new Float32Array(VOCAB * 32);
    tensors['encoder.embed_tokens.weight'] = { dtype: 'F32', shape: [VOCAB, 32], data };
  });
  await expect(openModel(directory)).rejects.toThrow(
    'encoder.embed_tokens.weight that differs from shared.weight',
  );
});

test.each([
  ['t5', 'shared.weight', null],
  ['t5-v1.1', 'lm_head.weight', null],
  ['t5-v1.1-old', 'lm_head.weight', null],
  ['bart', 'model.shared.weight', 'final_logits_bias'],
  ['bart-base', 'model.shared.weight', null],
  ['marian', 'model.shared.weight', 'final_logits_bias'],
  ['marian-two', 'model.decoder.embed_tokens.weight', 'final_logits_bias'],
])('%s answers by %s and %s', async (name, outputWeight, logitBias) => {
  const model = requireEncoderDecoder(await openModel(goldenDirectory(name)));
  expect(model).toMatchObject({ outputWeight, logitBias });
  expect(() => requireCausal(model)).toThrow('it cannot continue text');
});
