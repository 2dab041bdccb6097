// buildApp: the HTTP service as a value, with all plugins and routes listed in order. It does not listen; main.ts does.
import { maxHeaderSize, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import multipart from '@fastify/multipart';
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import fastify, {
  type FastifyBaseLogger,
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify';
import packageJson from '../package.json' with { type: 'json' };
import type { Config } from './config.ts';
import type { Deps } from './deps.ts';
import { ApiError, type ErrorKind, toWire } from './errors.ts';
import { newId } from './ids.ts';
import type { Answerer, AnswererRequest } from './queue/answerer.ts';
import { isTransient } from './queue/retry.ts';
import { adminKeyRoutes } from './routes/admin-keys.ts';
import { auditLogRoutes } from './routes/audit-logs.ts';
import { decorateCallers, requireAdminKey, requireProjectKey } from './routes/authentication.ts';
import { batchRoutes } from './routes/batches.ts';
import { chatCompletionRoutes } from './routes/chat-completions.ts';
import { checkpointRoutes } from './routes/checkpoints.ts';
import { classificationRoutes } from './routes/classifications.ts';
import { completionRoutes } from './routes/completions.ts';
import { costRoutes } from './routes/costs.ts';
import { embeddingRoutes } from './routes/embeddings.ts';
import { evalRunRoutes } from './routes/eval-runs.ts';
import { evalRoutes } from './routes/evals.ts';
import { eventRoutes } from './routes/events.ts';
import { fileRoutes } from './routes/files.ts';
import { graderRoutes } from './routes/graders.ts';
import { healthRoutes } from './routes/health.ts';
import { jobRoutes } from './routes/jobs.ts';
import { keepAnswers } from './routes/kept-answers.ts';
import { metricRoutes } from './routes/metrics.ts';
import { modelExportRoutes } from './routes/model-exports.ts';
import { modelRoutes } from './routes/models.ts';
import { moderationRoutes } from './routes/moderations.ts';
import { monitoringRoutes } from './routes/monitoring.ts';
import { openapi, refResolver, styleMaps } from './routes/openapi.ts';
import { permissionRoutes } from './routes/permissions.ts';
import { projectKeyRoutes } from './routes/project-keys.ts';
import { projectRoutes } from './routes/projects.ts';
import { parseQuery } from './routes/query.ts';
import { quotaRoutes } from './routes/quotas.ts';
import { rateLimitRoutes } from './routes/rate-limits.ts';
import { responseRoutes } from './routes/responses.ts';
import { runnerRoutes } from './routes/runners.ts';
import { serviceAccountRoutes } from './routes/service-accounts.ts';
import { storedCompletionRoutes } from './routes/stored-completions.ts';
import { unknownRoute } from './routes/unserved.ts';
import { uploadRoutes } from './routes/uploads.ts';
import { usageRoutes } from './routes/usage.ts';
import { createValidatorCompiler } from './routes/validation.ts';
import { webhookRoutes } from './routes/webhooks.ts';
import { errorResponses } from './schemas/errors.ts';
import { sharedSchemas } from './schemas/shared.ts';
import type { Caller } from './store/api-keys.ts';
import { ORGANIZATION_ID } from './store/projects.ts';

declare module 'fastify' {
  interface FastifyInstance {
    /** Aborted when shutdown begins, to end streams that would not end by themselves. */
    closing: AbortSignal;
  }
}

/** `ft:` names with a long suffix and `:ckpt-step-n` exceed fastify's default of 100. */
const MAX_PARAM_LENGTH = 500;
const JSON_LIMIT_BYTES = 32 * 2 ** 20;
/** Hides the plugin's top bar, which has its name and a field for other documents. */
const DOCS_THEME = {
  title: 'Anneal',
  css: [{ filename: 'anneal.css', content: '.swagger-ui .topbar { display: none }' }],
};
/** A field to find one of a hundred operations by its tag, and an address for each. */
const DOCS_UI = { filter: true, deepLinking: true };

export async function buildApp(deps: Deps): Promise<FastifyInstance> {
  const app = appWithoutRoutes(deps);

  await app.register(swagger, {
    openapi: openapi(packageJson.version),
    refResolver,
    transformObject: styleMaps,
  });
  await app.register(multipart, { limits: { fileSize: Number.POSITIVE_INFINITY, files: 1, fields: 20 } });
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    logLevel: 'silent',
    theme: DOCS_THEME,
    uiConfig: DOCS_UI,
  });
  app.get('/', { schema: { hide: true } }, (_request, reply) => reply.redirect('/docs'));
  app.get('/openapi.json', { schema: { hide: true } }, () => app.swagger());
  healthRoutes(app, deps, packageJson.version);
  await monitoringRoutes(app, deps);
  await app.register(async v1 => {
    requireProjectKey(v1, deps);
    keepAnswers(v1, deps);
    fileRoutes(v1, deps);
    uploadRoutes(v1, deps);
    jobRoutes(v1, deps);
    eventRoutes(v1, deps);
    checkpointRoutes(v1, deps);
    metricRoutes(v1, deps);
    graderRoutes(v1, deps);
    evalRoutes(v1, deps);
    evalRunRoutes(v1, deps);
    modelRoutes(v1, deps);
    modelExportRoutes(v1, deps);
    answeringRoutes(v1, deps);
    storedCompletionRoutes(v1, deps);
    batchRoutes(v1, deps);
    webhookRoutes(v1, deps);
  });
  await app.register(async administration => {
    requireAdminKey(administration, deps);
    keepAnswers(administration, deps);
    projectRoutes(administration, deps);
    projectKeyRoutes(administration, deps);
    serviceAccountRoutes(administration, deps);
    adminKeyRoutes(administration, deps);
    auditLogRoutes(administration, deps);
    usageRoutes(administration, deps);
    costRoutes(administration, deps);
    rateLimitRoutes(administration, deps);
    quotaRoutes(administration, deps);
    permissionRoutes(administration, deps);
    runnerRoutes(administration, deps);
  });
  return app;
}

/** The endpoints that a batch may use. */
function answeringRoutes(app: FastifyInstance, deps: Deps): void {
  chatCompletionRoutes(app, deps);
  completionRoutes(app, deps);
  responseRoutes(app, deps);
  embeddingRoutes(app, deps);
  classificationRoutes(app, deps);
  moderationRoutes(app, deps);
}

/** Header that identifies a request from within the process. */
const FROM_WITHIN = 'anneal-request';

/**
 * The inference routes for the requests of batches, called within the process. They need no API key, but the project's rate limits
 * apply. It does not listen.
 */
export function buildAnswerer(deps: Deps): { answer: Answerer; close(): Promise<void> } {
  const app = appWithoutRoutes(deps);
  const requests = new Map<string, AnswererRequest>();
  app.addHook('onRequest', async (request, reply) => {
    const { projectId, apiKeyId, signal } = requests.get(String(request.headers[FROM_WITHIN]))!;
    request.caller = callerFromWithin(projectId, apiKeyId);
    const breakOff = () => void reply.raw.destroy();
    signal.addEventListener('abort', breakOff);
    reply.raw.once('close', () => signal.removeEventListener('abort', breakOff));
  });
  answeringRoutes(app, deps);
  return {
    async answer(request) {
      request.signal.throwIfAborted();
      const id = newId('request');
      requests.set(id, request);
      try {
        const headers = { [FROM_WITHIN]: id, 'content-type': 'application/json' };
        const payload = JSON.stringify(request.body);
        const response = await app.inject({ method: 'POST', url: request.url, headers, payload });
        const { statusCode } = response;
        return {
          statusCode,
          requestId: String(response.headers['x-request-id']),
          body: response.json(),
          retryAfterSeconds: Number(response.headers['retry-after']) || null,
        };
      } finally {
        requests.delete(id);
      }
    },
    close: () => app.close(),
  };
}

function callerFromWithin(projectId: string, keyId: string): Caller {
  const organizationId = ORGANIZATION_ID;
  return {
    keyId,
    projectId,
    organizationId,
    serviceAccountId: null,
    scopes: [],
    limited: true, // whether there are limits is found out when they are checked
    inBatch: true,
  };
}

/** An app with parsing, validation and error handling, and without routes. */
function appWithoutRoutes(deps: Deps): FastifyInstance {
  const app: FastifyInstance = fastify({
    loggerInstance: deps.log as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'request' }),
    trustProxy: trustedProxies(deps.config),
    genReqId: () => newId('request'),
    routerOptions: { maxParamLength: MAX_PARAM_LENGTH, querystringParser: parseQuery },
    bodyLimit: JSON_LIMIT_BYTES,
    forceCloseConnections: 'idle',
    frameworkErrors: answerError,
    clientErrorHandler: answerUnreadable,
  });
  decorateCallers(app);
  announceClosing(app);

  for (const schema of sharedSchemas) app.addSchema(schema);
  app.setValidatorCompiler(createValidatorCompiler(sharedSchemas));
  // Responses are not filtered by their schemas, which only document them; tests check that they match.
  app.setSerializerCompiler(() => data => JSON.stringify(data));
  app.setErrorHandler(answerError);
  app.setNotFoundHandler(request => {
    throw unknownRoute(request.method, request.url);
  });
  acceptEmptyJson(app);
  describeRefusedBodies(app);
  addResponseHeaders(app);
  return app;
}

const trustedProxies = ({ trustedProxies: networks }: Config): string[] | false =>
  networks.length > 0 && networks.map(({ address, prefix }) => `${address}/${prefix}`);

/** On shutdown, ends streams and closes connections as they become idle, instead of keeping them alive. */
function announceClosing(app: FastifyInstance): void {
  const closing = new AbortController();
  app.decorate('closing', closing.signal);
  const unused = unusedConnections(app);
  let sweeping: NodeJS.Timeout | undefined;
  app.addHook('preClose', async () => {
    closing.abort();
    sweeping = setInterval(() => {
      app.server.closeIdleConnections();
      for (const socket of unused) if (socket.bytesRead === 0) socket.destroy();
    }, 50);
  });
  app.addHook('onClose', async () => clearInterval(sweeping));
}

/** Connections without a request so far. Node does not count them as idle, and would wait a minute for their first request. */
function unusedConnections(app: FastifyInstance): ReadonlySet<Socket> {
  const unused = new Set<Socket>();
  app.server.on('connection', socket => {
    unused.add(socket);
    socket.once('close', () => unused.delete(socket));
  });
  app.server.on('request', request => unused.delete(request.socket));
  return unused;
}

/** The Python client sends `Content-Type: application/json` with every POST and DELETE, also those without a body. */
function acceptEmptyJson(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.removeContentTypeParser(['application/json', 'text/plain']);
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body.length === 0) return done(null, undefined);
    const { 'content-encoding': encoding = 'identity' } = request.headers;
    if (encoding !== 'identity') {
      const text = `Content-Encoding ${encoding} is not supported: send the body as it is.`;
      return done(new ApiError('unsupported_media_type', text), undefined);
    }
    parse(request, body as string, (error, value) => {
      if (!error) return done(null, value);
      const text = `We could not parse the JSON body of your request: ${error.message}`;
      done(new ApiError('invalid_json', text), undefined);
    });
  });
}

/** Documents 413 and 415 on all routes with a body parser, also on those that need no body. */
function describeRefusedBodies(app: FastifyInstance): void {
  app.addHook('onRoute', ({ method, schema }) => {
    if (!schema?.response || !['POST', 'DELETE'].includes(String(method))) return;
    schema.response = { ...schema.response, ...errorResponses(413, 415) };
  });
}

function addResponseHeaders(app: FastifyInstance): void {
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id);
    reply.header('openai-version', '2020-10-01');
  });
  app.addHook('onSend', async (_request, reply) => {
    reply.header('openai-processing-ms', Math.round(reply.elapsedTime));
  });
  app.addHook('onResponse', async (request, reply) => {
    const { method, url } = request;
    const path = url.split('?')[0];
    request.log.info(
      { method, path, status: reply.statusCode, ms: Math.round(reply.elapsedTime) },
      'request',
    );
  });
}

// ---- errors

/** Error kinds of fastify's own 4xx errors. Their messages are passed on, since they do not quote the request. */
const refusals: Record<number, ErrorKind> = {
  404: 'not_found',
  413: 'request_too_large',
  414: 'not_found',
  415: 'unsupported_media_type',
};

function answerError(thrown: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const error = asApiError(thrown);
  reply.header('x-request-id', request.id);
  if (error.status >= 500) request.log.error({ err: error.cause ?? thrown }, error.message);
  if (error.retryAfterSeconds !== null) reply.header('retry-after', error.retryAfterSeconds);
  if (error.shouldRetry !== null) reply.header('x-should-retry', String(error.shouldRetry));
  return reply.status(error.status).type('application/json').send(toWire(error));
}

/** What Node refuses before there is a request, by its code. */
const unreadable: Record<string, [ErrorKind, string]> = {
  ERR_HTTP_REQUEST_TIMEOUT: ['request_timeout', 'The request did not come in time.'],
  HPE_HEADER_OVERFLOW: [
    'headers_too_large',
    `The address and headers of the request are larger than ${maxHeaderSize} bytes.`,
  ],
};

function answerUnreadable({ code = '' }: NodeJS.ErrnoException, socket: Socket): void {
  const [kind, message] = unreadable[code] ?? ['invalid_request', 'We could not parse your HTTP request.'];
  const error = new ApiError(kind, message);
  const body = JSON.stringify(toWire(error));
  const head = [
    `HTTP/1.1 ${error.status} ${STATUS_CODES[error.status]}`,
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(body)}`,
    `x-request-id: ${newId('request')}`,
    'connection: close',
  ];
  if (socket.writable && code !== 'ECONNRESET') socket.write(`${head.join('\r\n')}\r\n\r\n${body}`);
  socket.destroy();
}

/** A restart of Postgres takes a few. */
const STORAGE_RETRY_SECONDS = 5;

/** Postgres' errors for text that it cannot store: U+0000, lone surrogates. */
const UNSTORABLE_TEXT = ['22021', '22P05', '22P02'];

function asApiError(thrown: unknown): ApiError {
  if (thrown instanceof ApiError) return thrown;
  const { statusCode, message, code } = thrown as FastifyError;
  if (UNSTORABLE_TEXT.includes(code)) {
    return new ApiError('invalid_value', 'The request holds a character that cannot be stored, such as NUL.');
  }
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') {
    return new ApiError('unsupported_media_type', `${message}. Send Content-Type: application/json.`);
  }
  if (statusCode && statusCode >= 400 && statusCode < 500) {
    return new ApiError(refusals[statusCode] ?? 'invalid_request', message);
  }
  if (isTransient(thrown)) {
    const message = 'The database or the object store does not answer. Please try again in a moment.';
    return new ApiError('storage_unavailable', message, {
      retryAfterSeconds: STORAGE_RETRY_SECONDS,
      cause: thrown,
    });
  }
  return new ApiError(
    'server_error',
    'The server had an error while processing your request. Sorry about that!',
    {
      cause: thrown,
    },
  );
}
