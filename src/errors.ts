// All errors of the API in one table: code -> status and type. Messages are written where an error is thrown.

const rules = {
  invalid_api_key: { status: 401, type: 'invalid_request_error' },
  missing_api_key: { status: 401, type: 'invalid_request_error', code: null },
  invalid_request: { status: 400, type: 'invalid_request_error', code: null },
  invalid_json: { status: 400, type: 'invalid_request_error', code: null },
  invalid_type: { status: 400, type: 'invalid_request_error' },
  invalid_value: { status: 400, type: 'invalid_request_error' },
  integer_below_min_value: { status: 400, type: 'invalid_request_error' },
  integer_above_max_value: { status: 400, type: 'invalid_request_error' },
  decimal_below_min_value: { status: 400, type: 'invalid_request_error' },
  decimal_above_max_value: { status: 400, type: 'invalid_request_error' },
  string_below_min_length: { status: 400, type: 'invalid_request_error' },
  string_above_max_length: { status: 400, type: 'invalid_request_error' },
  array_below_min_length: { status: 400, type: 'invalid_request_error' },
  array_above_max_length: { status: 400, type: 'invalid_request_error' },
  object_above_max_properties: { status: 400, type: 'invalid_request_error' },
  missing_required_parameter: { status: 400, type: 'invalid_request_error' },
  unknown_parameter: { status: 400, type: 'invalid_request_error' },
  unsupported_parameter: { status: 400, type: 'invalid_request_error' },
  unsupported_value: { status: 400, type: 'invalid_request_error' },
  invalid_file: { status: 400, type: 'invalid_request_error' },
  invalid_upload_state: { status: 400, type: 'invalid_request_error' },
  invalid_batch_state: { status: 400, type: 'invalid_request_error' },
  invalid_job_state: { status: 400, type: 'invalid_request_error' },
  invalid_run_state: { status: 400, type: 'invalid_request_error' },
  file_too_large: { status: 413, type: 'invalid_request_error' },
  webhook_unreachable: { status: 400, type: 'invalid_request_error' },
  context_length_exceeded: { status: 400, type: 'invalid_request_error' },
  permission_denied: { status: 403, type: 'invalid_request_error' },
  insufficient_permissions: { status: 403, type: 'invalid_request_error' },
  not_found: { status: 404, type: 'invalid_request_error', code: null },
  model_not_found: { status: 404, type: 'invalid_request_error' },
  model_not_available: { status: 400, type: 'invalid_request_error' },
  not_served: { status: 404, type: 'invalid_request_error' },
  unknown_url: { status: 404, type: 'invalid_request_error' },
  request_too_large: { status: 413, type: 'invalid_request_error', code: null },
  request_timeout: { status: 408, type: 'invalid_request_error', code: null },
  headers_too_large: { status: 431, type: 'invalid_request_error', code: null },
  unsupported_media_type: { status: 415, type: 'invalid_request_error', code: null },
  rate_limit_exceeded: { status: 429, type: 'rate_limit_error' },
  insufficient_quota: { status: 429, type: 'insufficient_quota', retry: false },
  idempotency_key_reused: { status: 409, type: 'invalid_request_error', retry: false },
  idempotency_key_in_use: { status: 409, type: 'invalid_request_error' },
  client_closed_request: { status: 499, type: 'invalid_request_error' },
  server_error: { status: 500, type: 'server_error', code: null },
  storage_unavailable: { status: 503, type: 'server_error' },
  server_is_overloaded: { status: 503, type: 'service_unavailable_error' },
} satisfies Record<string, { status: number; type: string; code?: null; retry?: false }>;

export type ErrorKind = keyof typeof rules;

/** An error that the client is told. Thrown where it is found; the app turns it into a response. */
export class ApiError extends Error {
  readonly kind: ErrorKind;
  readonly param: string | null;
  /** Value of the `retry-after` header. */
  readonly retryAfterSeconds: number | null;

  constructor(
    kind: ErrorKind,
    message: string,
    options: { param?: string | null; retryAfterSeconds?: number; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.kind = kind;
    this.param = options.param ?? null;
    this.retryAfterSeconds = options.retryAfterSeconds ?? null;
  }

  get status(): number {
    return rules[this.kind].status;
  }

  /** False for errors that official clients would retry in vain (`x-should-retry`); null leaves it to the client. */
  get shouldRetry(): false | null {
    const rule: { status: number; retry?: false } = rules[this.kind];
    return rule.retry ?? null;
  }
}

export interface WireError {
  error: { message: string; type: string; param: string | null; code: string | null };
}

export function toWire(error: ApiError): WireError {
  const rule: { type: string; code?: null } = rules[error.kind];
  const code = rule.code === null ? null : error.kind;
  return { error: { message: error.message, type: rule.type, param: error.param, code } };
}
