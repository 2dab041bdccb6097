// Packing: nothing is lost, moved across examples or longer than a row, whatever the examples are.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Sequence } from '../../src/data/example-form.ts';
import { emptyRow, fillRow, planRows } from '../../src/data/pack.ts';

function example(tokens: number[], trained: number[]): Sequence {
  return { tokens: Int32Array.from(tokens), trained: Uint8Array.from(trained) };
}

const ROW = 24;
const examples = fc.array(
  fc
    .array(fc.tuple(fc.integer({ min: 1, max: 50_000 }), fc.integer({ min: 0, max: 1 })), {
      minLength: 1,
      maxLength: ROW,
    })
    .map(pairs =>
      example(
        pairs.map(([token]) => token),
        pairs.map(([, flag], i) => (i === 0 ? 0 : flag)),
      ),
    ),
  { maxLength: 30 },
);

const packExamples = (list: readonly Sequence[], rowLength: number) =>
  planRows(
    list.map(({ tokens }) => tokens.length),
    rowLength,
  ).map(row =>
    fillRow(
      row.map(index => list[index]!),
      rowLength,
    ),
  );

test('every example comes out of the rows as it went in', () => {
  fc.assert(
    fc.property(examples, list => {
      const out: Sequence[] = [];
      for (const row of packExamples(list, ROW)) {
        expect([row.tokens.length, row.targets.length, row.positions.length, row.segments.length]).toEqual([
          ROW,
          ROW,
          ROW,
          ROW,
        ]);
        for (let segment = 1; row.segments.includes(segment); segment++) {
          const start = row.segments.indexOf(segment);
          const length = row.segments.filter(other => other === segment).length;
          const end = start + length;
          // One stretch, its positions from 0, its targets the next tokens of the same stretch.
          expect([...row.segments.subarray(start, end)]).toEqual(Array(length).fill(segment));
          expect([...row.positions.subarray(start, end)]).toEqual([...Array(length).keys()]);
          const tokens = [...row.tokens.subarray(start, end)];
          const trained = tokens.map((token, i) => {
            if (i === 0) return 0;
            const target = row.targets[start + i - 1]!;
            expect([-1, token]).toContain(target);
            return target === -1 ? 0 : 1;
          });
          expect(row.targets[end - 1]).toBe(-1);
          out.push(example(tokens, trained));
        }
        const padding = row.segments.indexOf(0);
        if (padding >= 0) {
          expect(row.segments.subarray(padding).every(segment => segment === 0)).toBe(true);
          expect(row.targets.subarray(padding).every(target => target === -1)).toBe(true);
        }
      }
      const key = ({ tokens, trained }: Sequence) => `${tokens.join()} ${trained.join()}`;
      expect(out.map(key).sort()).toEqual(list.map(key).sort());
    }),
    { numRuns: 300 },
  );
});

test('rows are those of first-fit decreasing', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 20 }), { maxLength: 40 }), lengths => {
      const rows: { used: number; examples: number[] }[] = [];
      const order = lengths.map((_, i) => i).sort((a, b) => lengths[b]! - lengths[a]! || a - b);
      for (const i of order) {
        const fits = rows.find(row => row.used + lengths[i]! <= 20);
        if (fits) {
          fits.used += lengths[i]!;
          fits.examples.push(i);
        } else rows.push({ used: lengths[i]!, examples: [i] });
      }
      expect(planRows(lengths, 20)).toEqual(rows.map(row => row.examples));
    }),
  );
});

test('a known row', () => {
  const row = fillRow([example([5, 6, 7], [0, 1, 1]), example([8, 9], [0, 1])], 7);
  expect([...row.tokens]).toEqual([5, 6, 7, 8, 9, 0, 0]);
  expect([...row.targets]).toEqual([6, 7, -1, 9, -1, -1, -1]);
  expect([...row.positions]).toEqual([0, 1, 2, 0, 1, 0, 0]);
  expect([...row.segments]).toEqual([1, 1, 1, 2, 2, 0, 0]);
});

test('an example longer than a row is refused, by its number', () => {
  expect(() => planRows([3, 9, 4], 8)).toThrow('Example 1 has 9 tokens; a row holds 8');
  expect(() => fillRow([example([1, 2, 3], [0, 1, 1])], 2)).toThrow(RangeError);
});

test('no examples, no rows; an empty row is padding', () => {
  expect(packExamples([], 8)).toEqual([]);
  expect([...emptyRow(2).targets]).toEqual([-1, -1]);
});

test('half a million examples are planned in seconds', () => {
  const lengths = Uint32Array.from({ length: 500_000 }, (_, i) => 20 + ((i * 7919) % 900));
  const started = performance.now();
  const rows = planRows(lengths, 1024);
  expect(performance.now() - started).toBeLessThan(5000);
  const total = lengths.reduce((sum, length) => sum + length, 0);
  expect(total / (rows.length * 1024)).toBeGreaterThan(0.97);
});
