// Parses and validates the input file of a batch. The requests are sent by run-batches.ts.

import { readLines } from '../data/jsonl.ts';
import { newId } from '../ids.ts';
import { isObject } from '../json-object.ts';
import type { BatchRequest } from '../store/batch-runs.ts';
import type { BatchError } from '../store/batches.ts';

/** OpenAI's. */
export const batchLimits = { lines: 50_000, bytes: 200 * 2 ** 20 };
/** Further errors are not reported. */
const TOLD_ERRORS = 100;

export interface InputRequest {
  line: number;
  customId: string;
  body: Record<string, unknown>;
}

export interface CheckedInput {
  /** Empty for a valid file. */
  errors: BatchError[];
  requests: BatchRequest[];
  /** The model of all requests; null when they name several. */
  model: string | null;
}

export interface InputRules {
  endpoint: string;
  hasModel(id: string): Promise<boolean>;
}

type Mistake = Pick<BatchError, 'code' | 'message'> & { param?: string };

/** Checks every line, so that all errors are reported at once. */
export async function checkInput(
  source: AsyncIterable<Uint8Array>,
  rules: InputRules,
): Promise<CheckedInput> {
  const errors: BatchError[] = [];
  const requests: BatchRequest[] = [];
  const lineOf = new Map<string, number>();
  const models = new Map<string, boolean>();
  const tell = (line: number | null, { code, message, param }: Mistake) =>
    void (errors.length < TOLD_ERRORS && errors.push({ code, message, param: param ?? null, line }));

  for await (const line of readLines(source)) {
    const request = 'text' in line ? parse(line.text, rules.endpoint) : unreadable(line.message);
    if ('code' in request) {
      tell(line.number, request);
      continue;
    }
    const first = lineOf.get(request.customId);
    if (first !== undefined) tell(line.number, duplicate(request.customId, first));
    else lineOf.set(request.customId, line.number);
    const { model } = request.body as { model: string };
    if (!models.has(model)) models.set(model, await rules.hasModel(model));
    if (!models.get(model)) tell(line.number, unknownModel(model));
    requests.push({ line: line.number, id: newId('batchRequest'), customId: request.customId });
    if (requests.length > batchLimits.lines) break;
  }
  if (requests.length > batchLimits.lines) tell(null, tooMany());
  if (requests.length === 0 && errors.length === 0) tell(null, empty());
  return { errors, requests, model: models.size === 1 ? [...models.keys()][0]! : null };
}

/** The requests of a file that `checkInput` has accepted. */
export async function* readInput(
  source: AsyncIterable<Uint8Array>,
  endpoint: string,
): AsyncGenerator<InputRequest> {
  for await (const line of readLines(source)) {
    const request = 'text' in line ? parse(line.text, endpoint) : unreadable(line.message);
    if ('code' in request) throw new Error(`line ${line.number} has changed since it was checked`);
    yield { line: line.number, ...request };
  }
}

function parse(text: string, endpoint: string): Omit<InputRequest, 'line'> | Mistake {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { code: 'invalid_json_line', message: 'This line is not parseable as valid JSON.' };
  }
  if (!isObject(value))
    return { code: 'invalid_json_line', message: 'This line must be a JSON object, and is another value.' };
  for (const check of checks) {
    const mistake = check(value, endpoint);
    if (mistake) return mistake;
  }
  return { customId: value.custom_id as string, body: value.body as Record<string, unknown> };
}

type Check = (line: Record<string, unknown>, endpoint: string) => Mistake | null;

/** In order: only the first error of a line is reported. */
const checks: Check[] = [
  line => isMissing(line, 'custom_id', value => typeof value === 'string' && value !== ''),
  line => isMissing(line, 'method', value => typeof value === 'string'),
  line => isMissing(line, 'url', value => typeof value === 'string'),
  line => isMissing(line, 'body', isObject),
  ({ method }) =>
    method === 'POST'
      ? null
      : { code: 'invalid_method', message: `The method must be 'POST', not '${method}'.`, param: 'method' },
  ({ url }, endpoint) =>
    url === endpoint
      ? null
      : {
          code: 'invalid_url',
          message: `The URL '${url}' does not match the batch's endpoint '${endpoint}'.`,
          param: 'url',
        },
  ({ body }) =>
    typeof (body as Record<string, unknown>).model === 'string'
      ? null
      : {
          code: 'missing_required_parameter',
          message: "Missing required parameter: 'body.model'.",
          param: 'body.model',
        },
  ({ body }) =>
    (body as Record<string, unknown>).stream !== true
      ? null
      : {
          code: 'unsupported_parameter',
          message: "'stream' is not supported in batches.",
          param: 'body.stream',
        },
];

function isMissing(
  line: Record<string, unknown>,
  param: string,
  isRight: (value: unknown) => boolean,
): Mistake | null {
  if (isRight(line[param])) return null;
  if (line[param] === undefined)
    return { code: 'missing_required_parameter', message: `Missing required parameter: '${param}'.`, param };
  return { code: 'invalid_type', message: `Invalid type for '${param}'.`, param };
}

const unreadable = (message: string): Mistake => ({ code: 'invalid_json_line', message: `This ${message}.` });

const duplicate = (customId: string, line: number): Mistake => ({
  code: 'duplicate_custom_id',
  message: `The custom_id '${customId.slice(0, 100)}' is that of line ${line}; each request of a batch needs its own.`,
  param: 'custom_id',
});

const unknownModel = (model: string): Mistake => ({
  code: 'model_not_found',
  message: `The model \`${model.slice(0, 300)}\` does not exist or you do not have access to it.`,
  param: 'body.model',
});

const tooMany = (): Mistake => ({
  code: 'too_many_requests',
  message: `The input file has more than ${batchLimits.lines} requests.`,
});

const empty = (): Mistake => ({
  code: 'empty_file',
  message: 'The input file is empty. Please ensure that the batch contains at least one request.',
});
