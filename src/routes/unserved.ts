// OpenAI's routes that are not served here, and what a request for one is told. A row's route, once it is served, goes.
import { ApiError } from '../errors.ts';

const chat = 'Conversations are answered at /v1/chat/completions.';
const jobs = 'Fine-tuning is at /v1/fine_tuning/jobs.';

/** First step of the path below /v1 -> what it is, and what to use instead where there is something. */
export const unservedRoutes: Record<string, { what: string; instead?: string }> = {
  agents: { what: 'Agents', instead: chat },
  answers: { what: 'Answers', instead: chat },
  assistants: { what: 'Assistants', instead: chat },
  audio: { what: 'Speech and transcription' },
  chatkit: { what: 'ChatKit', instead: chat },
  containers: { what: 'Containers' },
  content_provenance_checks: { what: 'Content provenance' },
  conversations: { what: 'Conversations', instead: chat },
  decisions: { what: 'Decisions' },
  edits: { what: 'Edits', instead: chat },
  engines: { what: 'Engines', instead: 'Models are listed at /v1/models.' },
  'fine-tunes': { what: 'The fine-tuning API of before 2023', instead: jobs },
  images: { what: 'Images' },
  live: { what: 'Live sessions' },
  moderations: {
    what: 'Moderation',
    instead: 'There is no model for it; a classifier trained on your own examples can take its place.',
  },
  realtime: { what: 'Realtime sessions' },
  safety: { what: 'Safety alerts' },
  skills: { what: 'Skills' },
  threads: { what: 'Threads', instead: chat },
  vaults: { what: 'Vaults' },
  vector_stores: { what: 'Vector stores' },
  videos: { what: 'Video' },
};

/** For a request that no route takes. */
export function unknownRoute(method: string, url: string): ApiError {
  const path = url.split('?')[0]!;
  const [, version, step = ''] = path.split('/');
  const row = version === 'v1' && Object.hasOwn(unservedRoutes, step) ? unservedRoutes[step]! : null;
  if (!row) return new ApiError('unknown_url', `Invalid URL (${method} ${path})`);
  const message = `${row.what}: not served by this server (${method} ${path}). ${row.instead ?? 'It fine-tunes and serves language models.'} What it serves is listed at /openapi.json.`;
  return new ApiError('not_served', message);
}
