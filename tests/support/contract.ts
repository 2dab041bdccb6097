// Validates responses against the OpenAPI document: observes all responses of the API under test and checks each JSON body and stream
// event against the schema of its operation.
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import type { FastifyInstance } from 'fastify';

interface Operation {
  operationId: string;
  responses: Record<string, { content?: Record<string, { schema?: object }> }>;
}

type Paths = Record<string, Record<string, Operation>>;

interface Answer {
  status: number;
  contentType: string;
  body: string;
}

export interface Contract {
  /** Throws if a response since the last call does not match the document. */
  check(): void;
}

export function watchAnswers(app: FastifyInstance): Contract {
  const document = app.swagger() as unknown as { paths: Paths };
  const validatorOf = validators(document);
  const mistakes: string[] = [];
  app.server.prependListener('request', (request: IncomingMessage, response: ServerResponse) => {
    const operation = findOperation(document.paths, request.method!.toLowerCase(), request.url!);
    if (operation) record(response, answer => mistakes.push(...mistakesIn(answer, operation, validatorOf)));
  });
  return {
    check() {
      const found = mistakes.splice(0);
      if (found.length > 0) throw new Error(`not as in the document:\n${found.join('\n')}`);
    },
  };
}

function findOperation(paths: Paths, method: string, url: string): Operation | undefined {
  const steps = url.split('?')[0]!.split('/');
  const fits = (path: string) => {
    const pattern = path.split('/');
    return (
      pattern.length === steps.length && pattern.every((step, i) => step.startsWith('{') || step === steps[i])
    );
  };
  const candidates = Object.keys(paths).filter(fits);
  // Prefer `/a/list` over `/a/{id}`.
  const path = candidates.find(candidate => !candidate.includes('{')) ?? candidates[0];
  return path === undefined ? undefined : paths[path]![method];
}

// ---- responses

const READ = /^(application\/json|text\/event-stream)/;

function record(response: ServerResponse, ended: (answer: Answer) => void): void {
  const chunks: Buffer[] = [];
  let contentType = '';
  const { writeHead, write, end } = response;
  const keep = (chunk: unknown) => {
    contentType ||= String(response.getHeader('content-type') ?? '');
    if (READ.test(contentType) && (typeof chunk === 'string' || chunk instanceof Uint8Array))
      chunks.push(Buffer.from(chunk as string));
  };
  Object.assign(response, {
    writeHead(status: number, ...rest: (string | OutgoingHttpHeaders)[]) {
      const headers = rest.at(-1);
      if (typeof headers === 'object') contentType = String(headers['content-type'] ?? '');
      return Reflect.apply(writeHead, response, [status, ...rest]);
    },
    write(...args: unknown[]) {
      keep(args[0]);
      return Reflect.apply(write, response, args);
    },
    end(...args: unknown[]) {
      keep(args[0]);
      const body = Buffer.concat(chunks).toString();
      ended({ status: response.statusCode, contentType, body });
      return Reflect.apply(end, response, args);
    },
  });
}

// ---- declarations

type ValidatorOf = (schema: object) => ValidateFunction;

function validators(document: object): ValidatorOf {
  const ajv = new Ajv2020({ strict: false, allErrors: true, formats: { binary: true } });
  ajv.addSchema(document, 'openapi');
  const compiled = new Map<object, ValidateFunction>();
  return schema => {
    const known = compiled.get(schema);
    if (known) return known;
    const text = JSON.stringify(schema).replaceAll('"#/components', '"openapi#/components');
    const validate = ajv.compile(JSON.parse(text));
    compiled.set(schema, validate);
    return validate;
  };
}

function mistakesIn(answer: Answer, operation: Operation, validatorOf: ValidatorOf): string[] {
  const { status, contentType, body } = answer;
  const declared = operation.responses[status];
  const say = (what: string) => [`${operation.operationId} ${status}: ${what}`];
  if (status === 499) return []; // the client has disconnected
  if (!declared) return say(`is not declared: ${body.slice(0, 500)}`);
  if (!READ.test(contentType)) return [];
  const type = contentType.split(';')[0]!;
  const schema = declared.content?.[type]?.schema;
  if (!schema) return say(`declares no ${type}`);
  const validate = validatorOf(schema);
  const values = type === 'application/json' ? [body] : eventsIn(body);
  return values
    .filter(value => !validate(JSON.parse(value)))
    .flatMap(value => say(`${JSON.stringify(validate.errors)} in ${value.slice(0, 2000)}`));
}

/** Data of each event, without errors, which have the same form in all streams. */
function eventsIn(stream: string): string[] {
  const data = stream.split(/\r?\n/).filter(line => line.startsWith('data: '));
  return data.map(line => line.slice(6)).filter(text => text !== '[DONE]' && !/^\{"error":\{/.test(text));
}
