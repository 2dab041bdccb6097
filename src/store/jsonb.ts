// JSON as Postgres takes it: jsonb has no U+0000 and no lone surrogates, which models do write and files do hold.

/** Each becomes U+FFFD. JSON.stringify writes both as escapes, and nothing else of that form. */
export function toJsonb(value: unknown): string {
  return JSON.stringify(value).replace(/\\(u0000|ud[89a-f][0-9a-f]{2}|.)/gs, (found, code: string) =>
    code.length > 1 ? '\\ufffd' : found,
  );
}
