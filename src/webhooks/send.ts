// Sends a webhook message once. Retries are in src/queue/deliver-webhooks.ts.
import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import type { Network } from './addresses.ts';
import { AddressRefused, checkedLookup, checkUrl } from './addresses.ts';
import { signatureHeaders } from './signature.ts';

/** OpenAI gives a receiver "a few seconds". */
const TIMEOUT_MS = 10_000;

export interface WebhookEvent {
  /** evt_... */
  id: string;
  type: string;
  createdAt: Date;
  data: Record<string, unknown>;
}

export interface WebhookMessage {
  /** Id of the delivery, the same for each attempt. */
  id: string;
  url: string;
  /** Newest first. */
  secrets: readonly string[];
  event: WebhookEvent;
}

/** The status code of the response, or why there is none. */
export type WebhookAnswer = { statusCode: number; error: null } | { statusCode: null; error: string };

export interface SendOptions {
  /** Private networks that are allowed. */
  allowed: readonly Network[];
  /** Cancels the request. */
  signal?: AbortSignal;
  timeoutMs?: number;
}

/** Does not follow redirects. Never throws. */
export async function sendWebhook(message: WebhookMessage, options: SendOptions): Promise<WebhookAnswer> {
  const { allowed, signal, timeoutMs = TIMEOUT_MS } = options;
  const timeout = AbortSignal.timeout(timeoutMs);
  try {
    const url = new URL(message.url);
    checkUrl(url, allowed);
    const end = signal ? AbortSignal.any([signal, timeout]) : timeout;
    return { statusCode: await post(url, message, allowed, end), error: null };
  } catch (error) {
    if (timeout.aborted) return { statusCode: null, error: `no answer within ${timeoutMs / 1000} s` };
    return { statusCode: null, error: reasonOf(error as Error) };
  }
}

function reasonOf(error: NodeJS.ErrnoException): string {
  if (error instanceof AddressRefused) return error.message;
  return error.code && !error.message.includes(error.code)
    ? `${error.code}: ${error.message}`
    : error.message || String(error);
}

function post(
  url: URL,
  message: WebhookMessage,
  allowed: readonly Network[],
  signal: AbortSignal,
): Promise<number> {
  const body = bodyOf(message.event);
  const signed = { id: message.id, timestamp: Math.floor(Date.now() / 1000), body };
  const request = url.protocol === 'https:' ? requestHttps : requestHttp;
  return new Promise((done, fail) => {
    const sending = request(url, {
      method: 'POST',
      agent: false, // no shared connections, so that each one has passed the address check of this endpoint
      lookup: checkedLookup(url, allowed),
      signal,
      headers: {
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body),
        'user-agent': 'Anneal-Webhooks/1.0',
        ...signatureHeaders(signed, message.secrets),
      },
    });
    sending.once('error', fail);
    sending.once('response', response => {
      done(response.statusCode!);
      response.destroy(); // the body is not read
    });
    sending.end(body);
  });
}

function bodyOf({ id, type, createdAt, data }: WebhookEvent): string {
  const created_at = Math.floor(createdAt.getTime() / 1000);
  return JSON.stringify({ id, object: 'event', created_at, type, data });
}
