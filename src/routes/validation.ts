// How requests are checked against their schemas: bodies as they are, queries and path values (which are texts) converted.
import { Ajv } from 'ajv';
import type { FastifySchemaCompiler } from 'fastify';
import type { TSchema } from 'typebox';
import { meantErrors } from '../schemas/meant-branch.ts';
import { toApiError } from '../schemas/mistakes.ts';

export function createValidatorCompiler(sharedSchemas: readonly TSchema[]): FastifySchemaCompiler<object> {
  const options = {
    useDefaults: true,
    verbose: true,
    strict: false,
    allowUnionTypes: true,
    formats: { binary: true as const },
  };
  const strict = new Ajv(options);
  // a list of one may come as a plain value
  const converting = new Ajv({ ...options, coerceTypes: 'array' });
  for (const schema of sharedSchemas) {
    strict.addSchema(schema);
    converting.addSchema(schema);
  }
  return ({ schema, httpPart }) => {
    const ajv = httpPart === 'body' ? strict : converting;
    const validate = ajv.compile(schema);
    return value => {
      // a body that was not sent is an empty one: what is missing in it is then named
      if (validate(value ?? {})) return { value: value ?? {} };
      return { error: toApiError(meantErrors(ajv, validate.errors!)) };
    };
  };
}

/** For bodies that are not JSON: their schema only describes them. */
export const describedOnly: FastifySchemaCompiler<unknown> = () => value => ({ value });
