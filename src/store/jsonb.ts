// JSON for jsonb columns, which accept neither U+0000 nor lone surrogates. Model output and files may contain both.

/** Replaces each by U+FFFD. JSON.stringify writes both as \u escapes and uses these escapes for nothing else. */
export function toJsonb(value: unknown): string {
  return JSON.stringify(value).replace(/\\(u0000|ud[89a-f][0-9a-f]{2}|.)/gs, (found, code: string) =>
    code.length > 1 ? '\\ufffd' : found,
  );
}
