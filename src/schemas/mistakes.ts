// Converts JSON schema validation errors to OpenAI's error messages.
import type { ErrorObject } from 'ajv';
import { ApiError, type ErrorKind } from '../errors.ts';

type Sentence = (name: string, error: Finding) => [ErrorKind, string];

/** ajv's error in verbose form. */
interface Finding {
  instancePath: string;
  keyword: string;
  params: Record<string, unknown>;
  schema?: unknown;
  parentSchema?: { anyOf?: Branch[]; type?: string };
  data?: unknown;
  /** The key, if the key itself is invalid. */
  propertyName?: string;
}

interface Branch {
  type?: string;
  const?: unknown;
}

const sentences: Record<string, Sentence> = {
  required: name => ['missing_required_parameter', `Missing required parameter: '${name}'.`],
  additionalProperties: name => ['unknown_parameter', `Unknown parameter: '${name}'.`],
  type: (name, { params, data }) => [
    'invalid_type',
    `Invalid type for ${name ? `'${name}'` : 'the body'}: expected ${withArticle(String(params.type))}, but got ${describe(data)} instead.`,
  ],
  anyOf: (name, { parentSchema, data }) => [
    'invalid_type',
    `Invalid type for '${name}': expected one of ${listBranches(parentSchema?.anyOf ?? [])}, but got ${describe(data)} instead.`,
  ],
  enum: (_, { schema, data }) => ['invalid_value', unsupported(data, schema as unknown[])],
  const: (_, { schema, data }) => ['invalid_value', unsupported(data, [schema])],
  minimum: (name, { schema, data, parentSchema }) => [
    `${numberKind(parentSchema)}_below_min_value`,
    `Invalid '${name}': ${numberKind(parentSchema)} below minimum value. Expected a value >= ${schema}, but got ${data} instead.`,
  ],
  exclusiveMinimum: (name, { schema, data, parentSchema }) => [
    `${numberKind(parentSchema)}_below_min_value`,
    `Invalid '${name}': ${numberKind(parentSchema)} below minimum value. Expected a value > ${schema}, but got ${data} instead.`,
  ],
  maximum: (name, { schema, data, parentSchema }) => [
    `${numberKind(parentSchema)}_above_max_value`,
    `Invalid '${name}': ${numberKind(parentSchema)} above maximum value. Expected a value <= ${schema}, but got ${data} instead.`,
  ],
  exclusiveMaximum: (name, { schema, data, parentSchema }) => [
    `${numberKind(parentSchema)}_above_max_value`,
    `Invalid '${name}': ${numberKind(parentSchema)} above maximum value. Expected a value < ${schema}, but got ${data} instead.`,
  ],
  minLength: (name, { schema, data }) => [
    'string_below_min_length',
    `Invalid '${name}': string too short. Expected a string with minimum length ${schema}, but got ${lengthOf(data, 'a string')} instead.`,
  ],
  maxLength: (name, { schema, data, propertyName }) => [
    'string_above_max_length',
    `Invalid ${propertyName === undefined ? '' : 'key in '}'${name}': string too long. Expected a string with maximum length ${schema}, but got ${lengthOf(data, 'a string')} instead.`,
  ],
  pattern: (name, { schema }) => [
    'invalid_value',
    `Invalid '${name}': string does not match pattern. Expected a string that matches the pattern '${schema}'.`,
  ],
  minItems: (name, { schema, data }) => [
    'array_below_min_length',
    `Invalid '${name}': array too short. Expected an array with minimum length ${schema}, but got ${lengthOf(data, 'an array')} instead.`,
  ],
  maxItems: (name, { schema, data }) => [
    'array_above_max_length',
    `Invalid '${name}': array too long. Expected an array with maximum length ${schema}, but got ${lengthOf(data, 'an array')} instead.`,
  ],
  uniqueItems: name => ['invalid_value', `Invalid '${name}': no two of its entries may be the same.`],
  maxProperties: (name, { schema, data }) => [
    'object_above_max_properties',
    `Invalid '${name}': object has too many properties. Expected at most ${schema} properties, but got ${Object.keys(data as object).length} instead.`,
  ],
};

/** The mistake to report: the most specific one. */
export function toApiError(errors: readonly ErrorObject[]): ApiError {
  const error = mostSpecific(errors as readonly Finding[]);
  const name = nameOf(error);
  const sentence = sentences[error.keyword];
  if (!sentence)
    return new ApiError('invalid_value', `Invalid value for '${name}'.`, { param: name || null });
  const [kind, message] = sentence(name, error);
  return new ApiError(kind, message, { param: name || null });
}

/** The union branch that the value was meant for: its type matches, or its error is nested deeper. */
function mostSpecific(errors: readonly Finding[]): Finding {
  const last = errors.at(-1)!;
  if (last.keyword !== 'anyOf') return errors[0]!;
  const meant = errors.filter(
    error => error.instancePath.startsWith(last.instancePath) && isOfMeantBranch(error, last),
  );
  const typeless = (last.parentSchema?.anyOf ?? []).every(branch => branch.const !== undefined);
  if (typeless)
    return { ...last, keyword: 'enum', schema: last.parentSchema!.anyOf!.map(branch => branch.const) };
  return meant[0] ?? last;
}

function isOfMeantBranch(error: Finding, union: Finding): boolean {
  if (error === union || error.keyword === 'anyOf') return false;
  if (error.instancePath.length > union.instancePath.length) return true;
  return !['type', 'const', 'enum'].includes(error.keyword);
}

/** `/messages/0/role` -> `messages[0].role`. */
function nameOf({ instancePath, params }: Finding): string {
  const steps = instancePath
    .split('/')
    .slice(1)
    .map(step => step.replaceAll('~1', '/').replaceAll('~0', '~'));
  const extra = params.missingProperty ?? params.additionalProperty;
  if (typeof extra === 'string') steps.push(extra);
  return steps.reduce(
    (name, step) => (/^\d+$/.test(step) ? `${name}[${step}]` : name ? `${name}.${step}` : step),
    '',
  );
}

function unsupported(value: unknown, allowed: unknown[]): string {
  return `Invalid value: ${quote(value)}. Supported values are: ${allowed.map(quote).join(', ')}.`;
}

function quote(value: unknown): string {
  return typeof value === 'string' ? `'${value.slice(0, 100)}'` : describe(value);
}

function listBranches(branches: Branch[]): string {
  const names = branches.map(branch =>
    branch.const !== undefined ? quote(branch.const) : withArticle(branch.type ?? 'object'),
  );
  return names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} or ${names.at(-1)}`;
}

function describe(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'number') return Number.isInteger(value) ? 'an integer' : 'a decimal number';
  return withArticle(typeof value);
}

function withArticle(type: string): string {
  if (type === 'null') return 'null';
  return `${/^[aeiou]/.test(type) ? 'an' : 'a'} ${type}`;
}

function numberKind(schema: Finding['parentSchema']): 'integer' | 'decimal' {
  return schema?.type === 'integer' ? 'integer' : 'decimal';
}

function lengthOf(value: unknown, what: string): string {
  return `${what} with length ${(value as { length: number }).length}`;
}
