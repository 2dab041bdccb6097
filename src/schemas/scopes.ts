// Scopes of restricted keys: `api.{area}.{verb}`. Keys store their scopes; keys without scopes are unrestricted.
import { Type } from 'typebox';
import { Choice } from './choice.ts';

/** First path segment below /v1 -> area. */
const areas: Record<string, string> = {
  models: 'model',
  chat: 'model',
  completions: 'model',
  embeddings: 'model',
  classifications: 'model',
  moderations: 'model',
  responses: 'model',
  files: 'files',
  uploads: 'files',
  fine_tuning: 'fine_tuning',
  evals: 'evals',
  batches: 'batch',
  webhook_endpoints: 'webhooks',
  webhook_event_types: 'webhooks',
};

const READ_ALL = 'api.all.read';

export const scopeNames = [
  READ_ALL,
  'api.model.request',
  ...[...new Set(Object.values(areas))].flatMap(area => [`api.${area}.read`, `api.${area}.write`]),
];

export const Scopes = Type.Array(Choice(scopeNames), {
  maxItems: scopeNames.length,
  description:
    'Scopes of the key; empty: everything. `api.all.read` allows all reads, `api.model.request` asking models for answers.',
  examples: [['api.model.request']],
});

/** The scope that the request requires and the key lacks; null if permitted. */
export function missingScope(
  scopes: readonly string[],
  { method, url }: { method: string; url: string },
): string | null {
  if (scopes.length === 0) return null;
  const needed = neededScope(method, url.split(/[/?]/)[2] ?? '');
  const reads = needed.endsWith('.read') && scopes.includes(READ_ALL);
  return reads || scopes.includes(needed) ? null : needed;
}

/** `segment`: the first path segment below /v1. */
function neededScope(method: string, segment: string): string {
  const area = areas[segment] ?? segment;
  if (method === 'GET' || method === 'HEAD') return `api.${area}.read`;
  return area === 'model' && method === 'POST' ? 'api.model.request' : `api.${area}.write`;
}
