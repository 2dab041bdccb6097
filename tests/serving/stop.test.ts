// Stop strings over pieces of text: never emitted, whatever the borders, and nothing else lost.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createStopScanner } from '../../src/serving/stop.ts';

function scan(pieces: readonly string[], stops: readonly string[]) {
  const scanner = createStopScanner(stops);
  let text = '';
  for (const piece of pieces) {
    const result = scanner.push(piece);
    text += result.text;
    if (result.stopped) return { text, stopped: true };
  }
  return { text: text + scanner.flush(), stopped: false };
}

test('holds back what could be a stop string, and lets it go when it is not', () => {
  const scanner = createStopScanner(['END']);
  expect(scanner.push('the E')).toEqual({ text: 'the ', stopped: false });
  expect(scanner.push('N')).toEqual({ text: '', stopped: false });
  expect(scanner.push('T')).toEqual({ text: 'ENT', stopped: false });
  expect(scanner.push('EN')).toEqual({ text: '', stopped: false });
  expect(scanner.flush()).toBe('EN');
});

test('the first complete of several stop strings ends the text', () => {
  expect(scan(['one two ', 'three four'], ['four', 'thr', ''])).toEqual({ text: 'one two ', stopped: true });
});

test('over any split of any text, the result is the text before the first stop string to be complete', () => {
  const letters = fc.string({ unit: fc.constantFrom('a', 'b', '\n'), maxLength: 12 });
  fc.assert(
    fc.property(
      fc.array(letters, { maxLength: 8 }),
      fc.array(fc.string({ unit: fc.constantFrom('a', 'b', '\n'), minLength: 1, maxLength: 4 }), {
        maxLength: 4,
      }),
      (pieces, stops) => {
        const whole = pieces.join('');
        const lengths = Array.from({ length: whole.length + 1 }, (_, length) => length);
        const end = lengths.find(length => stops.some(stop => whole.slice(0, length).endsWith(stop)));
        const longest = Math.max(
          ...stops.filter(stop => whole.slice(0, end).endsWith(stop)).map(s => s.length),
        );
        const expected =
          end === undefined
            ? { text: whole, stopped: false }
            : { text: whole.slice(0, end - longest), stopped: true };
        expect(scan(pieces, stops)).toEqual(expected);
      },
    ),
    { numRuns: 2000 },
  );
});
