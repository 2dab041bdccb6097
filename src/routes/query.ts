// Reads a query string as the OpenAI clients write it: `metadata[k]=v` is { metadata: { k: v } }. Values stay texts.

export function parseQuery(text: string): Record<string, unknown> {
  const query: Record<string, unknown> = Object.create(null);
  for (const [name, value] of new URLSearchParams(text)) {
    const nested = /^([^[\]]+)\[([^[\]]+)\]$/.exec(name);
    if (nested) addNested(query, nested[1]!, nested[2]!, value);
    else query[name] = value;
  }
  return query;
}

function addNested(query: Record<string, unknown>, name: string, key: string, value: string): void {
  if (typeof query[name] !== 'object') query[name] = Object.create(null);
  (query[name] as Record<string, string>)[key] = value;
}
