// A regular expression that matches any of several literal strings, longest first.

/** Null for an empty list. */
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
