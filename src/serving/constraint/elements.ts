// Grammar of call arguments as elements (`<parameter=city>\nParis\n</parameter>`), by the schema of the equivalent object.
// Strings are raw text, other values JSON.
import type { ArgumentElements } from '../tool-forms.ts';
import type { JsonLanguage } from './json.ts';
import type { Expression } from './language.ts';
import { resolvePointer, SchemaError, schemaLanguage } from './schema.ts';

type Schema = Readonly<Record<string, unknown>>;

interface Writing {
  readonly json: JsonLanguage;
  readonly elements: ArgumentElements;
  readonly root: Schema;
  readonly strict: boolean;
  /** A fixed text of the format. */
  fixed(text: string): Expression;
}

/** Unsupported keywords: their languages are built for quoted JSON strings, and strings have no quotes here. */
const UNWRITTEN = ['pattern', 'format'];
const MAX_DEPTH = 20;

/** The elements in the order of the properties. Throws SchemaError. */
export function elementsLanguage(
  json: JsonLanguage,
  elements: ArgumentElements,
  { schema, strict }: { schema: unknown; strict: boolean },
  fixed: Writing['fixed'],
): Expression {
  const { language } = json;
  schemaLanguage(json, schema, strict); // for its errors: the same schemas are rejected
  const root = (schema ?? {}) as Schema;
  const writing: Writing = { json, elements, root, strict, fixed };
  const { properties = {}, required = [] } = root as { properties?: Schema; required?: readonly string[] };
  const members = Object.entries(properties).map(([name, member]) => {
    const written = element(
      writing,
      json.text(name),
      valueLanguage(writing, member, ['properties', name], 0),
    );
    return required.includes(name) ? written : language.either(written, language.empty);
  });
  if (members.length > 0 || strict) return language.sequence(...members);
  const name = language.repeat(
    language.symbols([
      [48, 57],
      [65, 90],
      [95, 95],
      [97, 122],
    ]),
    1,
    Number.POSITIVE_INFINITY,
  );
  return language.repeat(element(writing, name, textLanguage(writing, {}, [])), 0, Number.POSITIVE_INFINITY);
}

const element = ({ json, elements, fixed }: Writing, name: Expression, value: Expression): Expression =>
  json.language.sequence(fixed(elements.open), name, fixed(elements.separator), value, fixed(elements.close));

function valueLanguage(writing: Writing, given: unknown, path: readonly string[], depth: number): Expression {
  const { json, root, strict } = writing;
  const schema = (given ?? {}) as Schema;
  const { $ref: pointer, const: constant, enum: values, anyOf, oneOf, type } = schema;
  const branches = anyOf ?? oneOf;
  if (typeof pointer === 'string' && depth < MAX_DEPTH)
    return valueLanguage(writing, resolvePointer(root, pointer), path, depth + 1);
  if (constant !== undefined) return literal(json, constant);
  if (Array.isArray(values)) return json.language.either(...values.map(value => literal(json, value)));
  if (Array.isArray(branches))
    return json.language.either(...branches.map(branch => valueLanguage(writing, branch, path, depth + 1)));
  if (Array.isArray(type))
    return json.language.either(
      ...type.map(each => valueLanguage(writing, { ...schema, type: each }, path, depth + 1)),
    );
  if (type === 'string' || type === undefined) return textLanguage(writing, schema, path);
  const { $defs, definitions } = root;
  return schemaLanguage(json, { ...onlyOf(schema), $defs, definitions }, strict);
}

/** Without string keywords, which may stem from a list of types. */
const onlyOf = ({ minLength: _, maxLength: __, pattern: ___, format: ____, ...schema }: Schema): Schema =>
  schema;

const literal = ({ text }: JsonLanguage, value: unknown): Expression =>
  text(typeof value === 'string' ? value : JSON.stringify(value));

/** Any text that does not contain the closing tag. */
function textLanguage(
  { json, elements, strict }: Writing,
  schema: Schema,
  path: readonly string[],
): Expression {
  const { language, codePoint, text } = json;
  const unwritten = UNWRITTEN.find(keyword => keyword in schema);
  if (strict && unwritten)
    throw new SchemaError(
      [...path, unwritten].join('.'),
      `'${unwritten}' is not supported with this model, which writes strings without quotes`,
    );
  const { minLength = 0, maxLength = Number.POSITIVE_INFINITY } = schema as Record<string, number>;
  const any = language.repeat(codePoint, 0, Number.POSITIVE_INFINITY);
  const ended = language.sequence(any, text(elements.close.trim()), any);
  return language.both(language.repeat(codePoint, minLength, maxLength), language.not(ended));
}
