// Authentication: an API key of a project for the routes of that project, or an admin key for the administration of all projects.
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { missingScope } from '../schemas/scopes.ts';
import { findAdminCaller } from '../store/admin-keys.ts';
import { type Caller, findCaller } from '../store/api-keys.ts';
import { type Actor, appendAuditLog } from '../store/audit-logs.ts';
import { ORGANIZATION_ID } from '../store/projects.ts';
import { shareReads } from './shared-reads.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** The project key's caller; set on all routes below /v1 except administration. */
    caller: Caller;
    /** Id of the admin key; set on the routes of administration. */
    adminKeyId: string;
  }
}

export function decorateCallers(app: FastifyInstance): void {
  app.decorateRequest('caller', null as unknown as Caller);
  app.decorateRequest('adminKeyId', null as unknown as string);
}

/** Requires a project's API key on all routes of `app`. */
export function requireProjectKey(app: FastifyInstance, deps: Deps): void {
  const find = shareReads(secret => findCaller(deps.pool, secret));
  app.addHook('onRequest', async (request, reply) => {
    const secret = bearerOf(request);
    const caller = await find(secret);
    if (!caller)
      throw await refusal(secret, 'API key of a project', () => findAdminCaller(deps.pool, secret));
    const missing = missingScope(caller.scopes, request);
    if (missing) throw insufficient(`Missing scopes: ${missing}.`);
    request.caller = caller;
    reply.header('openai-organization', caller.organizationId);
  });
}

/** Requires an admin key on all routes of `app`. */
export function requireAdminKey(app: FastifyInstance, deps: Deps): void {
  const noteFailure = failureNotes(deps);
  app.addHook('onRequest', async (request, reply) => {
    const secret = bearerOf(request);
    const id = await findAdminCaller(deps.pool, secret);
    if (!id) {
      const error = await refusal(secret, 'admin key', () => findCaller(deps.pool, secret));
      await noteFailure(request, error);
      throw error;
    }
    request.adminKeyId = id;
    reply.header('openai-organization', ORGANIZATION_ID);
  });
}

/** The actor of a request for the audit log. */
export function actorOf(request: FastifyRequest): Actor {
  return { type: 'api_key', id: request.adminKeyId ?? request.caller.keyId, address: request.ip };
}

function bearerOf(request: FastifyRequest): string {
  const key = /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1]?.trim();
  if (key) return key;
  throw new ApiError(
    'missing_api_key',
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
  );
}

/** A valid key of the other kind is told which kind is needed. */
async function refusal(
  secret: string,
  wanted: string,
  findElsewhere: () => Promise<unknown>,
): Promise<ApiError> {
  if (await findElsewhere()) return insufficient(`This route needs an ${wanted}.`);
  return new ApiError('invalid_api_key', `Incorrect API key provided: ${maskKey(secret)}.`);
}

function insufficient(why: string): ApiError {
  return new ApiError(
    'insufficient_permissions',
    `You have insufficient permissions for this operation. ${why}`,
  );
}

function maskKey(key: string): string {
  return key.length < 12 ? '***' : `${key.slice(0, 6)}***${key.slice(-4)}`;
}

const NOTED_A_MINUTE = 60;

/** Writes failed logins to the audit log, at most 60 per minute, so that guessing keys does not fill it. */
function failureNotes(deps: Deps): (request: FastifyRequest, error: ApiError) => Promise<void> {
  let minute = 0;
  let noted = 0;
  return async (request, { kind, message }) => {
    const now = Math.floor(Date.now() / 60_000);
    if (now !== minute) noted = 0;
    minute = now;
    if (++noted > NOTED_A_MINUTE) return;
    await appendAuditLog(deps.pool, {
      type: 'login.failed',
      actor: { type: 'session', id: null, address: request.ip },
      details: { error_code: kind, error_message: message },
    });
  };
}
