// Formats a table as plain text; columns are as wide as their widest cell.

/** Ends with a line break. `right`: all columns but the first are right-aligned. */
export function printTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  right = false,
): string {
  const all = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...all.map(row => (row[column] ?? '').length)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) =>
        right && column > 0 ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!),
      )
      .join('  ')
      .trimEnd();
  return `${[line(header), widths.map(width => '-'.repeat(width)).join('  '), ...rows.map(line)].join('\n')}\n`;
}
