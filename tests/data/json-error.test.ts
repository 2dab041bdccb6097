// Where and why a text is not JSON, against Python's json (fixtures/make.py).
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { describeJsonError, findJsonError } from '../../src/data/json-error.ts';

const cases: { text: string; reason: string; position: number }[] = JSON.parse(
  readFileSync(join(import.meta.dirname, 'fixtures', 'json-errors.json'), 'utf8'),
);

test.each(cases)('$text', ({ text, reason, position }) => {
  expect(findJsonError(text)).toEqual({ reason, position });
});

test('finds an error exactly where JSON.parse does', () => {
  const json = fc
    .json()
    .chain(text =>
      fc.tuple(
        fc.constant(text),
        fc.nat(text.length),
        fc.constantFrom('', '"', ',', '}', ']', '\\', '0', 'x', ' '),
      ),
    );
  fc.assert(
    fc.property(json, ([text, at, inserted]) => {
      const changed = text.slice(0, at) + inserted + text.slice(at + 1);
      let parses = true;
      try {
        JSON.parse(changed);
      } catch {
        parses = false;
      }
      expect(findJsonError(changed) === null).toBe(parses);
    }),
    { numRuns: 2000 },
  );
});

test('names the column as Python does', () => {
  const text = describeJsonError({ reason: "Expecting ',' delimiter", position: 78 });
  expect(text).toBe("Expecting ',' delimiter: line 1 column 79 (char 78)");
});

test('millions of brackets do not overflow the stack', () => {
  expect(findJsonError('['.repeat(2_000_000))).toEqual({ reason: 'Expecting value', position: 2_000_000 });
});
