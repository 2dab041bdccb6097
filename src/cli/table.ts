// A table as plain text: columns as wide as their widest cell, numbers as the caller wrote them.

/** Ends with a line break. The first column is aligned to the left, and so are the others unless `right` says so. */
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
