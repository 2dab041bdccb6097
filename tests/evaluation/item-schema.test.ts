// Schemas of strangers: what they find wrong, and that none of them holds this process up.
import { describe, expect, test } from 'vitest';
import { compileItemSchema } from '../../src/evaluation/item-schema.ts';

test('names the first wrong item, and what is wrong with it', () => {
  const check = compileItemSchema({ properties: { n: { type: 'integer' } }, required: ['n'] });
  expect(check([{ n: 1 }, { n: 2 }])).toBeNull();
  expect(check([{ n: 1 }, { n: 'two' }, {}])).toEqual({ index: 1, reason: 'item/n must be integer' });
});

test('what is no schema is refused', () => {
  const wrong = () => compileItemSchema({ type: 'text' });
  expect(wrong).toThrow(expect.objectContaining({ param: 'data_source_config.item_schema' }));
});

describe('is stopped when it takes too long', () => {
  const tooLong = expect.objectContaining({
    status: 400,
    message: expect.stringContaining('takes too long'),
  });
  test.each([
    ['a pattern', { pattern: '^(a+)+$' }, `${'a'.repeat(40)}!`],
    ['unique items', { uniqueItems: true }, Array.from({ length: 100_000 }, (_, i) => ({ i }))],
  ])('%s', (_, rule, value) => {
    const check = compileItemSchema({ properties: { value: rule } });
    expect(() => check([{ value }])).toThrow(tooLong);
    expect(check([{}])).toBeNull(); // it may be used again
  });
});
