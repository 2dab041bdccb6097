// Reads single fields of a Hugging Face `config.json`, with defaults and validation.
import { ModelError } from './model-error.ts';

export type ConfigJson = Readonly<Record<string, unknown>>;

/** A field's value; `fallback` where it is absent or null. Without a fallback its absence is an error. */
function field<Value>(
  json: ConfigJson,
  name: string,
  fallback: Value | undefined,
  expected: string,
  fits: (value: unknown) => boolean,
): Value {
  const value = json[name] ?? fallback;
  if (value === undefined) throw new ModelError(`config.json lacks ${name}`);
  if (!fits(value)) {
    throw new ModelError(`config.json: ${name} must be ${expected}, not ${JSON.stringify(value)}`);
  }
  return value as Value;
}

export function readCount(json: ConfigJson, name: string, fallback?: number): number {
  return field(json, name, fallback, 'a positive integer', v => Number.isInteger(v) && (v as number) > 0);
}

export function readPositive(json: ConfigJson, name: string, fallback?: number): number {
  return field(json, name, fallback, 'a positive number', v => Number.isFinite(v) && (v as number) > 0);
}

export function readFlag(json: ConfigJson, name: string, fallback: boolean): boolean {
  return field(json, name, fallback, 'true or false', v => typeof v === 'boolean');
}

/** One of the given strings. */
export function readChoice<Choice extends string>(
  json: ConfigJson,
  name: string,
  choices: readonly Choice[],
  fallback: Choice,
): Choice {
  const expected = `one of ${choices.join(', ')}`;
  return field(json, name, fallback, expected, v => (choices as readonly unknown[]).includes(v));
}

/** A nested object, or null. */
export function readObject(json: ConfigJson, name: string): ConfigJson | null {
  return field<ConfigJson | null>(
    { [name]: json[name] ?? null },
    name,
    null,
    'an object',
    v => v === null || (typeof v === 'object' && !Array.isArray(v)),
  );
}

type Field = readonly [name: string, fallback?: number];

/** A model's width and its attention heads, which must divide the width. */
export function readWidthAndHeads(json: ConfigJson, width: Field, heads: Field): [number, number] {
  const [size, count] = [readCount(json, ...width), readCount(json, ...heads)];
  if (size % count === 0) return [size, count];
  throw new ModelError(`config.json: ${width[0]} ${size} is no multiple of ${heads[0]} ${count}`);
}

/** Numbers of query heads and key-value heads. Without a fallback, the default is a key head for every query head. */
export function readHeadCounts(json: ConfigJson, fallback?: number): { heads: number; kvHeads: number } {
  const heads = readCount(json, 'num_attention_heads');
  const kvHeads = readCount(json, 'num_key_value_heads', fallback ?? heads);
  if (heads % kvHeads === 0) return { heads, kvHeads };
  throw new ModelError(
    `config.json: num_attention_heads ${heads} is no multiple of num_key_value_heads ${kvHeads}`,
  );
}

/** Throws unless the field is absent, null or the only supported value. */
export function refuse(json: ConfigJson, name: string, served: unknown): void {
  const value = json[name];
  if (value === undefined || value === null || value === served) return;
  throw new ModelError(`config.json: ${name} ${JSON.stringify(value)} is not supported`);
}
