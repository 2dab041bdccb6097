// The interface by which the worker sends a request to the API's routes within its own process. `buildAnswerer` in src/app.ts
// implements it.

export interface AnswererRequest {
  /** Project whose limits apply. */
  projectId: string;
  apiKeyId: string;
  /** Path of a route, such as `/v1/chat/completions`. */
  url: string;
  body: unknown;
  /** Cancels the request, which then rejects. */
  signal: AbortSignal;
}

export interface Answered {
  statusCode: number;
  requestId: string;
  body: unknown;
  /** The `retry-after` header; null without one. */
  retryAfterSeconds: number | null;
}

export type Answerer = (request: AnswererRequest) => Promise<Answered>;
