import { describe, expect, test } from 'vitest';
import type { Deps } from '../../src/deps.ts';
import { moderationCategories, moderationToWire } from '../../src/schemas/moderations.ts';
import { BASE_MODEL, useServer } from '../support/server.ts';

/** Finds the categories that a text names. */
async function classify(_model: unknown, inputs: { input: string }[]) {
  const labels = ['harassment', 'violence/graphic', 'spam'];
  const outputs = inputs.map(({ input }) => labels.map(label => (input.includes(label) ? 0.9 : 0.1)));
  return { type: 'classified', problem: 'multiple', labels, outputs, promptTokens: 5 };
}

const deps = () => ({
  generation: { classify, close: async () => undefined } as unknown as Deps['generation'],
});
const server = useServer({ environment: { ANNEAL_MODERATION_MODEL: BASE_MODEL }, deps });
const plain = useServer();

const named = (value: Record<string, unknown>, is: unknown) =>
  Object.keys(value).filter(key => JSON.stringify(value[key]) === JSON.stringify(is));

test('a text is of the categories that the classifier tells', async () => {
  const { id, model, results } = await server.client.moderations.create({ input: 'harassment and spam' });
  expect(id).toMatch(/^modr-/);
  expect(model).toBe(BASE_MODEL);
  expect(results).toHaveLength(1);
  const { flagged, categories, category_scores, category_applied_input_types } = results[0]!;
  expect(flagged).toBe(true);
  expect(Object.keys(categories)).toEqual([...moderationCategories]);
  expect(named(categories as never, true)).toEqual(['harassment']);
  expect(category_scores).toMatchObject({ harassment: 0.9, 'violence/graphic': 0.1, hate: 0 });
  expect(named(category_applied_input_types as never, ['text'])).toEqual(['harassment', 'violence/graphic']);
});

test('a label that is no category flags nothing', async () => {
  const { results } = await server.client.moderations.create({ input: 'spam' });
  expect(results[0]).toMatchObject({ flagged: false });
  const one = moderationToWire({ label: 'safe', labels: null, scores: { safe: 0.8, violence: 0.2 } });
  expect(one).toMatchObject({ flagged: false, category_scores: { violence: 0.2 } });
  const other = moderationToWire({ label: 'violence', labels: null, scores: { safe: 0.2, violence: 0.8 } });
  expect(other).toMatchObject({ flagged: true, categories: { violence: true, hate: false } });
});

test('several texts have an answer each; parts of text are one', async () => {
  const several = await server.client.moderations.create({ input: ['harassment', 'x'] });
  expect(several.results.map(({ flagged }) => flagged)).toEqual([true, false]);
  const parts = await server.client.moderations.create({
    input: [
      { type: 'text', text: 'x' },
      { type: 'text', text: 'harassment' },
    ],
  });
  expect(parts.results.map(({ flagged }) => flagged)).toEqual([true]);
});

describe('is refused', () => {
  test('an image', async () => {
    const input = [{ type: 'image_url' as const, image_url: { url: 'https://example.com/a.png' } }];
    await expect(server.client.moderations.create({ input })).rejects.toMatchObject({
      status: 400,
      param: 'input[0]',
    });
  });

  test('where no classifier is configured: not served', async () => {
    await expect(plain.client.moderations.create({ input: 'x' })).rejects.toMatchObject({
      status: 404,
      code: 'not_served',
      message: expect.stringContaining('ANNEAL_MODERATION_MODEL'),
    });
  });
});
