// One regular expression that finds any of several literal texts, the longest first. Nothing else.

/** Null for no texts. */
export function alternation(texts: readonly string[]): RegExp | null {
  const literals = texts.filter(text => text.length > 0);
  if (literals.length === 0) return null;
  return new RegExp(
    literals
      .sort((a, b) => b.length - a.length)
      .map(literal)
      .join('|'),
    'g',
  );
}

function literal(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
}
