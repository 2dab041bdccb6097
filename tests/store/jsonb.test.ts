// Any text reaches a jsonb column, and only what it cannot hold is changed.
import { expect, test } from 'vitest';
import { toJsonb } from '../../src/store/jsonb.ts';
import { useDatabase } from '../support/postgres.ts';

const database = useDatabase();

const texts = {
  'a\0b': 'a\ufffdb',
  '\ud800 alone': '\ufffd alone',
  'alone \udfff': 'alone \ufffd',
  '😀 paired': '😀 paired',
  'said \\u0000 and \\ud800': 'said \\u0000 and \\ud800',
  '\\\0': '\\\ufffd',
  'quote " tab \t': 'quote " tab \t',
};

test('what Postgres refuses becomes U+FFFD, the rest stays', async () => {
  for (const [given, expected] of Object.entries(texts)) {
    const { rows } = await database.pool.query('select $1::jsonb as value', [toJsonb({ [given]: [given] })]);
    expect(rows[0]).toEqual({ value: { [expected]: [expected] } });
  }
});
