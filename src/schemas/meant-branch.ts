// Reduces the errors of a union to those of the branch that the value was meant for; ajv reports those of all branches.
import type { Ajv, AnySchemaObject, ErrorObject } from 'ajv';

/** The errors of the branch that the value was meant for; all errors if that is unclear. */
export function meantErrors(ajv: Ajv, errors: readonly ErrorObject[]): readonly ErrorObject[] {
  const union = errors.at(-1)!;
  const parent = union.parentSchema as { anyOf?: AnySchemaObject[] } | undefined;
  const branches = parent?.anyOf?.map(branch => resolve(ajv, branch));
  if (union.keyword !== 'anyOf' || !branches || typeof union.data !== 'object' || union.data === null)
    return errors;
  const meant = findBranch(branches, union.data);
  if (!meant) return tagErrors(union, branches) ?? errors;
  const validate = ajv.compile(meant);
  if (validate(union.data)) return errors;
  const own = meantErrors(ajv, validate.errors!);
  return own.map(error => ({ ...error, instancePath: union.instancePath + error.instancePath }));
}

function resolve(ajv: Ajv, branch: AnySchemaObject): AnySchemaObject {
  return branch.$ref === undefined ? branch : (ajv.getSchema(branch.$ref)!.schema as AnySchemaObject);
}

/** `const` of its property `type`. */
function tagOf(branch: AnySchemaObject): unknown {
  return branch.properties?.type?.const;
}

function findBranch(branches: readonly AnySchemaObject[], value: object): AnySchemaObject | null {
  if (Array.isArray(value)) return only(branches.filter(({ type }) => type === 'array'));
  const objects = branches.filter(({ type }) => type === 'object');
  const { type } = value as { type?: unknown };
  if (typeof type === 'string') {
    const tagged = objects.filter(branch => tagOf(branch) === type);
    if (tagged.length > 0) return only(tagged);
  }
  return only(objects.filter(branch => tagOf(branch) === undefined));
}

const only = <T>(found: readonly T[]): T | null => (found.length === 1 ? found[0]! : null);

/** The `type` itself is missing or unknown. */
function tagErrors(union: ErrorObject, branches: readonly AnySchemaObject[]): ErrorObject[] | null {
  const tags = branches.map(tagOf);
  if (Array.isArray(union.data) || tags.includes(undefined)) return null;
  const data = (union.data as { type?: unknown }).type;
  if (data === undefined) return [{ ...union, keyword: 'required', params: { missingProperty: 'type' } }];
  return [
    { ...union, instancePath: `${union.instancePath}/type`, keyword: 'enum', params: {}, schema: tags, data },
  ];
}
