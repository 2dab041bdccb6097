// The error schema, and how routes declare their error responses.
import { Type } from 'typebox';

export const ErrorResponse = Type.Object(
  {
    error: Type.Object({
      message: Type.String({ description: 'Human-readable message.' }),
      type: Type.String({ description: 'Type of error, such as `invalid_request_error`.' }),
      param: Type.Union([Type.String(), Type.Null()], {
        description: 'The parameter that caused the error.',
      }),
      code: Type.Union([Type.String(), Type.Null()], { description: 'Machine-readable code.' }),
    }),
  },
  { $id: 'ErrorResponse', description: "An error in OpenAI's format." },
);

const answers = {
  400: {
    description: 'The request is invalid; `param` names the parameter.',
    example: {
      message: "Missing required parameter: 'model'.",
      param: 'model',
      code: 'missing_required_parameter',
    },
  },
  401: {
    description: 'The API key is missing or invalid.',
    example: { message: 'Incorrect API key provided: sk-ann***4abc.', param: null, code: 'invalid_api_key' },
  },
  403: {
    description: 'Not allowed, or not with this key.',
    example: { message: 'Base models cannot be deleted.', param: 'model', code: 'permission_denied' },
  },
  404: {
    description: "Not found in the key's project.",
    example: { message: 'No such File object: file-abc123', param: 'id', code: null },
  },
  409: {
    description: 'The Idempotency-Key was used for another request.',
    example: {
      message: "The Idempotency-Key 'a1' was used for another request.",
      param: 'Idempotency-Key',
      code: 'idempotency_key_reused',
    },
  },
  413: {
    description: 'The request is too large.',
    example: {
      message: 'The file is larger than the limit of 512 MB.',
      param: 'file',
      code: 'file_too_large',
    },
  },
  415: {
    description: 'Unsupported content type.',
    example: {
      message: 'Unsupported Media Type. Send Content-Type: application/json.',
      param: null,
      code: null,
    },
  },
  429: {
    description:
      'A limit of the project is reached: `rate_limit_exceeded` (retry after `retry-after`) or `insufficient_quota`.',
    example: {
      message:
        'Rate limit reached for all models in project proj_default on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 20s.',
      param: null,
      code: 'rate_limit_exceeded',
    },
  },
  500: {
    description: 'Server error; its log has more, under the `x-request-id` of the answer.',
    example: {
      message: 'The server had an error while processing your request. Sorry about that!',
      param: null,
      code: null,
    },
  },
  503: {
    description: 'A dependency is unavailable or the server is overloaded; retry.',
    example: {
      message: 'The database or the object store does not answer. Please try again in a moment.',
      param: null,
      code: 'storage_unavailable',
    },
  },
} as const;

/** Errors of all routes that need a key. 400 also applies to routes with only an id, for ids with U+0000. */
const ALWAYS = [400, 401, 403, 500, 503] as const;

/** Error responses of a route, in addition to those of all routes. */
export function errorResponses(...statuses: (keyof typeof answers)[]) {
  const wanted = [...new Set([...ALWAYS, ...statuses])].sort();
  return Object.fromEntries(wanted.map(status => [status, describeError(status)]));
}

const errorTypes: Record<number, string> = { 429: 'rate_limit_error' };

function describeError(status: keyof typeof answers) {
  const { description, example } = answers[status];
  const type = errorTypes[status] ?? (status >= 500 ? 'server_error' : 'invalid_request_error');
  return json(description, Type.Ref('ErrorResponse'), { error: { type, ...example } });
}

/** A JSON response with its example. */
export function json(description: string, schema: object, example: unknown) {
  return { description, content: { 'application/json': { schema, example } } };
}
