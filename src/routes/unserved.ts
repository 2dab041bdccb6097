// OpenAI's routes that are not served here, and the error for a request to one of them.
import { ApiError } from '../errors.ts';

const chat = 'Use /v1/chat/completions or /v1/responses.';
const jobs = 'Use /v1/fine_tuning/jobs.';

/** First one or two path segments below /v1 -> what it is, and an alternative if there is one. */
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
  engines: { what: 'Engines', instead: 'Use /v1/models.' },
  'fine-tunes': { what: 'The fine-tuning API before 2023', instead: jobs },
  images: { what: 'Images' },
  live: { what: 'Live sessions' },
  projects: { what: 'Roles in projects', instead: 'Permissions are the scopes of a key.' },
  realtime: { what: 'Realtime sessions' },
  'responses/compact': {
    what: 'Compaction of conversations',
    instead: '`truncation: auto` drops the oldest turns.',
  },
  'responses/input_tokens': {
    what: 'Token counts before an answer',
    instead: 'Answers have them in `usage`.',
  },
  safety: { what: 'Safety alerts' },
  skills: { what: 'Skills' },
  threads: { what: 'Threads', instead: chat },
  vaults: { what: 'Vaults' },
  vector_stores: { what: 'Vector stores' },
  videos: { what: 'Video' },
};

const keys = 'Use projects and service accounts: /v1/organization/projects.';

/** Path segment below /v1/organization -> the same. */
export const unservedAdministration: typeof unservedRoutes = {
  audio_speeches: { what: 'Usage of speech' },
  audio_transcriptions: { what: 'Usage of transcription' },
  certificates: { what: 'Certificates' },
  code_interpreter_sessions: { what: 'Usage of the code interpreter' },
  data_retention: { what: 'Data retention' },
  decisions: { what: 'Usage of decisions' },
  external_keys: { what: 'External keys' },
  external_storage: { what: 'External storage' },
  file_search_calls: { what: 'Usage of file search' },
  groups: { what: 'Groups', instead: keys },
  hosted_tool_permissions: { what: 'Hosted tools' },
  images: { what: 'Usage of images' },
  invites: { what: 'Invites', instead: keys },
  model_permissions: { what: 'Permissions of models' },
  roles: { what: 'Roles', instead: 'Permissions are the scopes of a key.' },
  service_tier_settings: { what: 'Service tiers' },
  spend_alerts: { what: 'Spend alerts', instead: 'Use /v1/organization/costs.' },
  spend_limit: { what: 'Spend limits', instead: 'Use rate limits and quotas of projects.' },
  users: { what: 'Users', instead: keys },
  vector_stores: { what: 'Usage of vector stores' },
  web_search_calls: { what: 'Usage of web search' },
  workload_identity_providers: { what: 'Workload identities', instead: keys },
};

/** The error for a request without a route. */
export function unknownRoute(method: string, url: string): ApiError {
  const path = url.split('?')[0]!;
  const row = unservedRow(path.split('/').slice(1));
  if (!row) return new ApiError('unknown_url', `Invalid URL (${method} ${path})`);
  const message = `${row.what}: not served by this server (${method} ${path}). ${row.instead ?? 'It fine-tunes and serves language models.'} All routes are listed at /openapi.json.`;
  return new ApiError('not_served', message);
}

function unservedRow([version, first = '', ...rest]: string[]) {
  if (version !== 'v1') return null;
  const step = [first, `${first}/${rest[0]}`].find(one => Object.hasOwn(unservedRoutes, one));
  if (step) return unservedRoutes[step]!;
  const administered =
    first === 'organization' && rest.find(one => Object.hasOwn(unservedAdministration, one));
  return administered ? unservedAdministration[administered]! : null;
}
