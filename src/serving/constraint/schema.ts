// Compiles JSON Schema to the language of the values it allows, for the keywords below. A strict schema is enforced in full:
// unsupported keywords are rejected, with their path. In loose mode (OpenAI's `strict: false`) they are ignored.
import { formats } from './formats.ts';
import type { JsonLanguage, Member } from './json.ts';
import type { Expression } from './language.ts';
import { type Bounds, decimalsBetween, integersBetween } from './numbers.ts';
import { PatternError, patternLanguage } from './pattern.ts';

/** Thrown for a schema that cannot be enforced. `path`: of the keyword, such as `properties.size.multipleOf`. */
export class SchemaError extends Error {
  readonly path: string;

  constructor(path: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.path = path;
  }
}

type Schema = Readonly<Record<string, unknown>>;
type Path = readonly (string | number)[];

/** OpenAI's own limits are 5,000 properties and 1,000 enum values, of 120,000 characters together. */
const MAX_SCHEMAS = 10_000;
const MAX_LITERAL_CHARACTERS = 120_000;
const MAX_COUNT = 10_000;
const MAX_PATH = 200;

/** Keywords that do not constrain values. */
const ANNOTATIONS = new Set([
  '$schema',
  '$id',
  '$comment',
  '$defs',
  'definitions',
  'title',
  'description',
  'default',
  'example',
  'examples',
  'deprecated',
  'readOnly',
  'writeOnly',
  'contentEncoding',
  'contentMediaType',
  'strict',
  'name',
]);

interface Compilation {
  readonly json: JsonLanguage;
  readonly root: unknown;
  readonly strict: boolean;
  /** Compiled schemas by pointer, so that recursion ends. */
  readonly references: Map<string, Expression>;
  /** Pointers being followed without an object or array in between: a repetition is an infinite loop. */
  readonly following: Set<string>;
  budget: { schemas: number; characters: number };
}

/** Throws SchemaError. */
export function schemaLanguage(json: JsonLanguage, schema: unknown, strict: boolean): Expression {
  const budget = { schemas: MAX_SCHEMAS, characters: MAX_LITERAL_CHARACTERS };
  const compilation = {
    json,
    root: schema,
    strict,
    references: new Map(),
    following: new Set<string>(),
    budget,
  };
  return compile(compilation, schema, []);
}

function compile(at: Compilation, schema: unknown, path: Path): Expression {
  if (--at.budget.schemas < 0) throw new SchemaError(name(path), `has more than ${MAX_SCHEMAS} parts`);
  if (path.length > MAX_PATH) throw new SchemaError(name(path), 'is nested too deeply');
  if (schema === true) return at.json.value;
  if (schema === false) return at.json.language.nothing;
  if (!isSchema(schema)) throw new SchemaError(name(path), 'is not a schema: an object, true or false');
  const rule = shapes.find(([keyword]) => keyword in schema && !isLooseObject(at, schema));
  const allowed = rule ? [rule[0], ...rule[1]] : typeKeywords(schema);
  refuseOthers(at, schema, allowed, path);
  return rule ? rule[2](at, schema, path) : compileTypes(at, schema, path);
}

/** In loose mode, `properties` take precedence over combinators beside them. */
const isLooseObject = ({ strict }: Compilation, schema: Schema): boolean => !strict && 'properties' in schema;

function refuseOthers(at: Compilation, schema: Schema, allowed: readonly string[], path: Path): void {
  if (!at.strict) return;
  const other = Object.keys(schema).find(keyword => !allowed.includes(keyword) && !ANNOTATIONS.has(keyword));
  if (other !== undefined)
    throw new SchemaError(name([...path, other]), `'${other}' is not supported ${where(schema, allowed)}`);
}

const where = (schema: Schema, allowed: readonly string[]): string =>
  allowed[0] && allowed[0] in schema && allowed[0] !== 'type'
    ? `beside '${allowed[0]}'`
    : schema.type === undefined
      ? "without a 'type'"
      : `for the type ${JSON.stringify(schema.type)}`;

type Rule = (at: Compilation, schema: Schema, path: Path) => Expression;

/** Keywords that determine a schema, those allowed beside them, and their rules. The first one present applies. */
const shapes: readonly [keyword: string, beside: readonly string[], rule: Rule][] = [
  ['$ref', [], compileReference],
  ['const', ['type'], (at, schema, path) => literals(at, [schema.const].filter(fitsType(schema)), path)],
  ['enum', ['type'], compileEnum],
  ['anyOf', [], (at, schema, path) => compileBranches(at, schema, path, 'anyOf')],
  ['oneOf', [], compileOneOf],
  ['allOf', [], compileAll],
];

function compileEnum(at: Compilation, schema: Schema, path: Path): Expression {
  const values = schema.enum;
  if (!Array.isArray(values) || values.length === 0)
    throw new SchemaError(name([...path, 'enum']), "'enum' must be a list of at least one value");
  return literals(at, values.filter(fitsType(schema)), [...path, 'enum']);
}

const fitsType =
  ({ type }: Schema) =>
  (value: unknown): boolean =>
    type === undefined || [type].flat().some(each => isOfType(value, each));

function isOfType(value: unknown, type: unknown): boolean {
  if (type === 'null') return value === null;
  if (type === 'integer') return Number.isInteger(value);
  if (type === 'array') return Array.isArray(value);
  if (type === 'object') return isSchema(value);
  return typeof value === type;
}

function literals(at: Compilation, values: readonly unknown[], path: Path): Expression {
  const texts = values.map(value => JSON.stringify(value));
  at.budget.characters -= texts.reduce((sum, text) => sum + text.length, 0);
  if (at.budget.characters < 0)
    throw new SchemaError(
      name(path),
      `has more than ${MAX_LITERAL_CHARACTERS} characters of values and names`,
    );
  return at.json.language.either(...texts.map(at.json.text));
}

function compileBranches(at: Compilation, schema: Schema, path: Path, keyword: string): Expression {
  const branches = schema[keyword];
  if (!Array.isArray(branches) || branches.length === 0)
    throw new SchemaError(name([...path, keyword]), `'${keyword}' must be a list of at least one schema`);
  return at.json.language.either(...branches.map((branch, i) => compile(at, branch, [...path, keyword, i])));
}

/** Loose mode treats it as `anyOf`: that exactly one branch matches is not enforced. */
function compileOneOf(at: Compilation, schema: Schema, path: Path): Expression {
  if (at.strict) throw new SchemaError(name([...path, 'oneOf']), "'oneOf' is not supported: use 'anyOf'");
  return compileBranches(at, schema, path, 'oneOf');
}

/** A single schema is supported, since some generators write a reference with a description that way. */
function compileAll(at: Compilation, schema: Schema, path: Path): Expression {
  const { allOf } = schema;
  if (Array.isArray(allOf) && allOf.length === 1) return compile(at, allOf[0], [...path, 'allOf', 0]);
  if (!at.strict) return at.json.value;
  throw new SchemaError(name([...path, 'allOf']), "'allOf' is not supported with more than one schema");
}

function compileReference(at: Compilation, schema: Schema, path: Path): Expression {
  const pointer = schema.$ref;
  const target = typeof pointer === 'string' ? resolvePointer(at.root, pointer) : undefined;
  if (typeof pointer !== 'string' || target === undefined)
    throw new SchemaError(
      name([...path, '$ref']),
      `${JSON.stringify(pointer)} is not a schema within this one`,
    );
  if (at.following.has(pointer))
    throw new SchemaError(name([...path, '$ref']), `'${pointer}' refers to itself and says nothing else`);
  const known = at.references.get(pointer);
  if (known) return known;
  let compiled = at.json.language.nothing;
  at.references.set(
    pointer,
    at.json.language.named(() => compiled),
  );
  at.following.add(pointer);
  compiled = compile(at, target, [...path, '$ref']);
  at.following.delete(pointer);
  return at.references.get(pointer)!;
}

/** Resolves `#/$defs/node` in the root; undefined if there is nothing. */
export function resolvePointer(root: unknown, pointer: string): unknown {
  if (!/^#($|\/)/.test(pointer)) return undefined;
  const steps = pointer.split('/').slice(1);
  return steps.reduce<unknown>((value, step) => {
    const key = decodeURIComponent(step).replaceAll('~1', '/').replaceAll('~0', '~');
    return value !== null && typeof value === 'object' && Object.hasOwn(value, key)
      ? (value as Record<string, unknown>)[key]
      : undefined;
  }, root);
}

// ---- by type

interface TypeRule {
  keywords: readonly string[];
  compile: Rule;
}

const NUMBER_KEYWORDS = ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'];

const types: Readonly<Record<string, TypeRule>> = {
  object: { keywords: ['properties', 'required', 'additionalProperties'], compile: compileObject },
  array: { keywords: ['items', 'minItems', 'maxItems'], compile: compileArray },
  string: { keywords: ['pattern', 'format', 'minLength', 'maxLength'], compile: compileString },
  number: {
    keywords: NUMBER_KEYWORDS,
    compile: (at, schema, path) => compileNumber(at, schema, path, false),
  },
  integer: {
    keywords: NUMBER_KEYWORDS,
    compile: (at, schema, path) => compileNumber(at, schema, path, true),
  },
  boolean: {
    keywords: [],
    compile: ({ json }) => json.language.either(json.text('true'), json.text('false')),
  },
  null: { keywords: [], compile: ({ json }) => json.text('null') },
};

/** The types that a schema names or that its keywords imply. */
function typesOf(schema: Schema): unknown[] {
  if (schema.type !== undefined) return [schema.type].flat();
  return Object.keys(types).filter(
    type => types[type]!.keywords.some(keyword => keyword in schema) && type !== 'integer',
  );
}

const typeKeywords = (schema: Schema): string[] => [
  'type',
  ...typesOf(schema).flatMap(type => types[String(type)]?.keywords ?? []),
];

function compileTypes(at: Compilation, schema: Schema, path: Path): Expression {
  const named = typesOf(schema);
  // Keywords without a type constrain values of their type only; strict mode requires `type`.
  if (schema.type === undefined && named.length > 0 && at.strict)
    throw new SchemaError(name([...path, 'type']), "'type' is missing");
  if (named.length === 0) return at.json.value;
  return at.json.language.either(
    ...named.map(type => {
      const rule = typeof type === 'string' && Object.hasOwn(types, type) ? types[type] : undefined;
      if (!rule) throw new SchemaError(name([...path, 'type']), `${JSON.stringify(type)} is not a type`);
      return rule.compile(at, schema, path);
    }),
  );
}

function compileObject(at: Compilation, schema: Schema, path: Path): Expression {
  const { properties = {}, required = [], additionalProperties: others } = schema;
  if (!isSchema(properties))
    throw new SchemaError(name([...path, 'properties']), "'properties' must be an object");
  if (!Array.isArray(required))
    throw new SchemaError(name([...path, 'required']), "'required' must be a list of names");
  const inside = { ...at, following: new Set<string>() };
  const members: Member[] = Object.entries(properties).map(([key, value]) => ({
    name: key,
    value: compile(inside, value, [...path, 'properties', key]),
    required: required.includes(key),
  }));
  literals(
    at,
    members.map(member => member.name),
    path,
  );
  const unnamed = required.filter(key => !Object.hasOwn(properties, key));
  if (unnamed.length > 0 && others === false)
    throw new SchemaError(
      name([...path, 'required']),
      `'${unnamed[0]}' is required and is not among the properties`,
    );
  const other = compile(inside, others ?? true, [...path, 'additionalProperties']);
  // Without `additionalProperties`, an object with properties gets no others: valid too, and bounded.
  const open = others === undefined ? members.length === 0 && unnamed.length === 0 : others !== false;
  for (const key of unnamed) members.push({ name: String(key), value: other, required: true });
  return at.json.members(members, open ? other : null);
}

function compileArray(at: Compilation, schema: Schema, path: Path): Expression {
  const inside = { ...at, following: new Set<string>() };
  const item = compile(inside, schema.items ?? true, [...path, 'items']);
  const min = count(schema, 'minItems', 0, path);
  return at.json.array(item, min, count(schema, 'maxItems', Number.POSITIVE_INFINITY, path));
}

function count(schema: Schema, keyword: string, fallback: number, path: Path): number {
  const value = schema[keyword] ?? fallback;
  if (
    value === fallback ||
    (Number.isInteger(value) && (value as number) >= 0 && (value as number) <= MAX_COUNT)
  )
    return value as number;
  throw new SchemaError(
    name([...path, keyword]),
    `'${keyword}' must be a whole number from 0 to ${MAX_COUNT}`,
  );
}

function compileString(at: Compilation, schema: Schema, path: Path): Expression {
  const { json } = at;
  const { pattern, format } = schema;
  const min = count(schema, 'minLength', 0, path);
  const max = count(schema, 'maxLength', Number.POSITIVE_INFINITY, path);
  const patterns = [patternOf(at, pattern, path), formatOf(at, format, path)].filter(each => each !== null);
  const free = json.language.repeat(json.character, min, max);
  const bounded = min > 0 || max < Number.POSITIVE_INFINITY;
  const parts = patterns.length === 0 || bounded ? [free, ...patterns] : patterns;
  return json.quoted(parts.reduce(json.language.both));
}

function patternOf(at: Compilation, pattern: unknown, path: Path): Expression | null {
  if (pattern === undefined) return null;
  if (typeof pattern !== 'string')
    throw new SchemaError(name([...path, 'pattern']), "'pattern' must be a string");
  try {
    return patternLanguage(at.json, pattern);
  } catch (cause) {
    if (!(cause instanceof PatternError)) throw cause;
    if (!at.strict) return null;
    throw new SchemaError(name([...path, 'pattern']), `the pattern ${cause.message}`, { cause });
  }
}

function formatOf(at: Compilation, format: unknown, path: Path): Expression | null {
  if (format === undefined) return null;
  if (typeof format === 'string' && Object.hasOwn(formats, format))
    return patternLanguage(at.json, formats[format]!);
  if (!at.strict) return null;
  const known = Object.keys(formats).join(', ');
  throw new SchemaError(
    name([...path, 'format']),
    `the format ${JSON.stringify(format)} is not supported; these are: ${known}`,
  );
}

function compileNumber(at: Compilation, schema: Schema, path: Path, integer: boolean): Expression {
  const wrong = NUMBER_KEYWORDS.find(keyword => keyword in schema && typeof schema[keyword] !== 'number');
  if (wrong) throw new SchemaError(name([...path, wrong]), `'${wrong}' must be a number`);
  if (!NUMBER_KEYWORDS.some(keyword => keyword in schema)) return integer ? at.json.integer : at.json.number;
  const bounds = boundsOf(schema as Record<string, number | undefined>);
  try {
    return integer ? integersBetween(at.json, bounds) : decimalsBetween(at.json, bounds);
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new SchemaError(name(path), cause.message, { cause });
  }
}

function boundsOf(schema: Record<string, number | undefined>): Bounds {
  const {
    minimum = -Infinity,
    maximum = Infinity,
    exclusiveMinimum = -Infinity,
    exclusiveMaximum = Infinity,
  } = schema;
  return {
    minimum: Math.max(minimum, exclusiveMinimum),
    maximum: Math.min(maximum, exclusiveMaximum),
    exclusiveMinimum: exclusiveMinimum >= minimum && exclusiveMinimum > -Infinity,
    exclusiveMaximum: exclusiveMaximum <= maximum && exclusiveMaximum < Infinity,
  };
}

const isSchema = (value: unknown): value is Schema =>
  value !== null && typeof value === 'object' && !Array.isArray(value);

const name = (path: Path): string =>
  path.reduce<string>(
    (text, step) => (typeof step === 'number' ? `${text}[${step}]` : text ? `${text}.${step}` : step),
    '',
  );
