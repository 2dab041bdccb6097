// How the worker has a request answered as the API would answer it. What answers is wired in main.ts (src/app.ts): the same
// routes, called within the process.

export interface AnswererRequest {
  /** Whose request it is. */
  projectId: string;
  apiKeyId: string;
  /** Of a route, such as `/v1/chat/completions`. */
  url: string;
  body: unknown;
  /** Breaks it off; then it rejects. */
  signal: AbortSignal;
}

export interface Answered {
  statusCode: number;
  requestId: string;
  body: unknown;
  /** When trying again makes sense; null where nothing is said. */
  retryAfterSeconds: number | null;
}

export type Answerer = (request: AnswererRequest) => Promise<Answered>;
