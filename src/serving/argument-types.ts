// The JSON types that a tool's schema allows for an argument. Does not validate values.
import { isObject } from '../json-object.ts';
import { resolvePointer } from './constraint/schema.ts';

/** The names that `typeof` gives, plus `null` and `array`. */
export type JsonType = 'string' | 'number' | 'boolean' | 'object' | 'array' | 'null';

/** Limit on nested references and branches. */
const MAX_DEPTH = 20;

/** `parameters`: the tool's schema. Defaults to string. */
export function argumentTypes(parameters: unknown, name: string): ReadonlySet<JsonType> {
  const properties = asSchema(asSchema(parameters).properties);
  const schema = Object.hasOwn(properties, name) ? properties[name] : {};
  const types = new Set(typesOf(schema, parameters, 0));
  return types.size > 0 ? types : new Set(['string']);
}

function typesOf(given: unknown, root: unknown, depth: number): JsonType[] {
  const schema = asSchema(given);
  if (depth > MAX_DEPTH) return [];
  const within = (inner: unknown): JsonType[] => typesOf(inner, root, depth + 1);
  const { $ref: pointer, type, const: constant, enum: values, anyOf, oneOf, allOf } = schema;
  if (typeof pointer === 'string') return within(resolvePointer(root, pointer));
  if (type !== undefined)
    return [type].flat().map(each => (each === 'integer' ? 'number' : (each as JsonType)));
  if (constant !== undefined) return [jsonTypeOf(constant)];
  if (Array.isArray(values)) return values.map(jsonTypeOf);
  return [anyOf, oneOf, allOf].flat().filter(isObject).flatMap(within);
}

/** Of a parsed value. */
export function jsonTypeOf(value: unknown): JsonType {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'array' : (typeof value as JsonType);
}

const asSchema = (value: unknown): Record<string, unknown> => (isObject(value) ? value : {});
