// Validation of requests: bodies strictly, queries, paths and headers with conversion from strings.
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
  // also converts a single value to an array
  const converting = new Ajv({ ...options, coerceTypes: 'array' });
  for (const schema of sharedSchemas) {
    strict.addSchema(schema);
    converting.addSchema(schema);
  }
  return ({ schema, httpPart }) => {
    const ajv = httpPart === 'body' ? strict : converting;
    const validate = ajv.compile(schema);
    return value => {
      // a missing body is validated as an empty one, so that the error names the missing parameter
      if (validate(value ?? {})) return { value: value ?? {} };
      return { error: toApiError(meantErrors(ajv, validate.errors!)) };
    };
  };
}

/** For bodies that are not JSON, whose schema is only documentation. */
export const describedOnly: FastifySchemaCompiler<unknown> = () => value => ({ value });
