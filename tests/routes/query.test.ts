import { expect, test } from 'vitest';
import { parseQuery } from '../../src/routes/query.ts';

test.each([
  ['limit=5&after=', { limit: '5', after: '' }],
  ['metadata%5Ba%5D=1&metadata[b]=2', { metadata: { a: '1', b: '2' } }],
  ['models[]=a&models[]=b', { models: ['a', 'b'] }],
  ['models=a&models=b&models=c', { models: ['a', 'b', 'c'] }],
  ['effective_at[gte]=1&effective_at[lt]=2', { effective_at: { gte: '1', lt: '2' } }],
  ['metadata[__proto__]=1', { metadata: Object.fromEntries([['__proto__', '1']]) }],
])('%s', (text, query) => {
  expect(JSON.parse(JSON.stringify(parseQuery(text)))).toEqual(query);
  expect(({} as Record<string, unknown>).polluted).toBeUndefined();
});
