import { expect, test } from 'vitest';
import { bar, formatBytes, showTransfers } from '../../src/cli/progress-bar.ts';
import { printTable } from '../../src/cli/table.ts';

test('a bar fills from the left and is never too long', () => {
  expect(bar(0, 10, 10)).toBe('[..........]');
  expect(bar(5, 10, 10)).toBe('[#####.....]');
  expect(bar(10, 10, 10)).toBe('[##########]');
  expect(bar(12, 10, 10)).toBe('[##########]');
  expect(bar(0, 0, 4)).toBe('[####]');
});

test.each([
  [0, '0 B'],
  [999, '999 B'],
  [1000, '1.0 kB'],
  [5_900_000, '5.9 MB'],
  [2_500_000_000, '2.5 GB'],
])('%i bytes are %s', (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

test('without a terminal a transfer is one line, at its end', () => {
  let written = '';
  const show = showTransfers({ write: text => (written += text) });
  show({ path: 'a', doneBytes: 1, totalBytes: 2 });
  show({ path: 'a', doneBytes: 2, totalBytes: 2 });
  expect(written).toBe('a  2 B\n');
});

test('columns are as wide as their widest cell; numbers go to the right', () => {
  expect(
    printTable(
      ['name', 'n'],
      [
        ['a', '1'],
        ['longer', '22'],
      ],
      true,
    ),
  ).toBe('name     n\n------  --\na        1\nlonger  22\n');
});
