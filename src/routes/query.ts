// Parses query strings as the OpenAI clients write them: `metadata[k]=v` becomes { metadata: { k: v } }; `models[]=a&models[]=b` and
// `models=a&models=b` become { models: ['a', 'b'] }. Values are strings.

export function parseQuery(text: string): Record<string, unknown> {
  const query: Record<string, unknown> = Object.create(null);
  for (const [name, value] of new URLSearchParams(text)) {
    const nested = /^([^[\]]+)\[([^[\]]*)\]$/.exec(name);
    if (!nested) query[name] = name in query ? [query[name], value].flat() : value;
    else if (nested[2] === '') addElement(query, nested[1]!, value);
    else addNested(query, nested[1]!, nested[2]!, value);
  }
  return query;
}

function addElement(query: Record<string, unknown>, name: string, value: string): void {
  const elements = query[name];
  if (Array.isArray(elements)) elements.push(value);
  else query[name] = [value];
}

function addNested(query: Record<string, unknown>, name: string, key: string, value: string): void {
  if (typeof query[name] !== 'object' || Array.isArray(query[name])) query[name] = Object.create(null);
  (query[name] as Record<string, string>)[key] = value;
}
