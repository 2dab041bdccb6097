// Holds real answers to the OpenAPI document: a `fetch` that checks every JSON body against what its operation declares.
import { Ajv2020 } from 'ajv/dist/2020.js';
import type { FastifyInstance } from 'fastify';

interface Operation {
  operationId: string;
  responses: Record<string, { content?: Record<string, { schema?: object }> }>;
}

export function fetchWithContract(app: FastifyInstance): typeof fetch {
  const document = app.swagger() as unknown as { paths: Record<string, Record<string, Operation>> };
  const ajv = new Ajv2020({ strict: false, allErrors: true, formats: { binary: true } });
  ajv.addSchema(document, 'openapi');
  return async (input, init) => {
    const response = await fetch(input, init);
    const url = new URL(input instanceof Request ? input.url : String(input));
    const method = (init?.method ?? 'GET').toLowerCase();
    const operation = findOperation(document.paths, method, url.pathname);
    if (operation && response.headers.get('content-type')?.includes('application/json')) {
      check(ajv, operation, response.status, await response.clone().json());
    }
    return response;
  };
}

function findOperation(paths: Record<string, Record<string, Operation>>, method: string, pathname: string) {
  const steps = pathname.split('/');
  const fits = (path: string) => {
    const pattern = path.split('/');
    return (
      pattern.length === steps.length && pattern.every((step, i) => step.startsWith('{') || step === steps[i])
    );
  };
  const path = Object.keys(paths).find(fits);
  return path === undefined ? undefined : paths[path]![method];
}

function check(ajv: Ajv2020, operation: Operation, status: number, body: unknown): void {
  const declared = operation.responses[status];
  if (!declared)
    throw new Error(
      `${operation.operationId} answered ${status}, which it does not declare: ${JSON.stringify(body)}`,
    );
  const schema = declared.content?.['application/json']?.schema;
  if (!schema) throw new Error(`${operation.operationId} ${status} declares no JSON`);
  const resolved = JSON.parse(JSON.stringify(schema).replaceAll('"#/components', '"openapi#/components'));
  const validate = ajv.compile(resolved);
  if (!validate(body)) {
    throw new Error(
      `${operation.operationId} ${status}: ${ajv.errorsText(validate.errors)} in ${JSON.stringify(body)}`,
    );
  }
}
