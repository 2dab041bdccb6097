// /v1/webhook_endpoints: endpoints for a project's events, and their deliveries. Workers send events; only the sample of `test` is sent here.
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { newId } from '../ids.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import { exampleList, toWireList } from '../schemas/lists.ts';
import {
  type CreateWebhookEndpointBody,
  exampleWebhookDelivery,
  exampleWebhookEndpoint,
  exampleWebhookEndpointWithSecret,
  type RotateWebhookSecretBody,
  sentEventTypes,
  type TestWebhookEndpointBody,
  type UpdateWebhookEndpointBody,
  WebhookEndpointId,
  WebhookPageQuery,
  webhookDeliveryToWire,
  webhookEndpointToWire,
} from '../schemas/webhooks.ts';
import { listWebhookDeliveries } from '../store/webhook-deliveries.ts';
import * as store from '../store/webhooks.ts';
import { AddressRefused, checkUrl } from '../webhooks/addresses.ts';
import { sendWebhook } from '../webhooks/send.ts';
import { newSigningSecret } from '../webhooks/signature.ts';

const tags = ['Webhooks'];
const PATH = '/v1/webhook_endpoints';
const OLD_SECRET_SECONDS = 24 * 3600;

type EndpointRequest = FastifyRequest<{ Params: WebhookEndpointId }>;

export function webhookRoutes(app: FastifyInstance, deps: Deps): void {
  app.post<{ Body: CreateWebhookEndpointBody }>(
    PATH,
    {
      schema: {
        operationId: 'createWebhookEndpoint',
        tags,
        summary: 'Create a webhook endpoint',
        description:
          'Sends the given event types to a URL from now on. The answer contains the signing secret.',
        body: Type.Ref('CreateWebhookEndpointRequest'),
        response: {
          200: json(
            'The endpoint, with its secret.',
            Type.Ref('WebhookEndpointWithSecret'),
            exampleWebhookEndpointWithSecret,
          ),
          ...errorResponses(),
        },
      },
    },
    async ({ body, caller }) => {
      refuseUrl(deps, body.url);
      const secret = newSigningSecret();
      const { name, url, event_types: eventTypes } = body;
      const { projectId } = caller;
      const endpoint = { projectId, secret, name, url, eventTypes };
      return withSecret(await store.insertWebhookEndpoint(deps.pool, endpoint));
    },
  );

  app.get<{ Querystring: WebhookPageQuery }>(
    PATH,
    {
      schema: {
        operationId: 'listWebhookEndpoints',
        tags,
        summary: 'List webhook endpoints',
        description: "The project's endpoints, newest first.",
        querystring: WebhookPageQuery,
        response: {
          200: json(
            'A page of endpoints.',
            Type.Ref('ListWebhookEndpointsResponse'),
            exampleList(exampleWebhookEndpoint),
          ),
          ...errorResponses(),
        },
      },
    },
    async ({ caller, query }) =>
      toWireList(await store.listWebhookEndpoints(deps.pool, caller.projectId, query), webhookEndpointToWire),
  );

  app.get<{ Params: WebhookEndpointId }>(
    `${PATH}/:webhook_endpoint_id`,
    {
      schema: {
        operationId: 'retrieveWebhookEndpoint',
        tags,
        summary: 'Retrieve a webhook endpoint',
        description: 'The endpoint, without its secret.',
        params: WebhookEndpointId,
        response: {
          200: json('The endpoint.', Type.Ref('WebhookEndpoint'), exampleWebhookEndpoint),
          ...errorResponses(404),
        },
      },
    },
    async request => webhookEndpointToWire(await findEndpoint(deps, request)),
  );

  app.post<{ Params: WebhookEndpointId; Body: UpdateWebhookEndpointBody }>(
    `${PATH}/:webhook_endpoint_id`,
    {
      schema: {
        operationId: 'updateWebhookEndpoint',
        tags,
        summary: 'Update a webhook endpoint',
        description: 'Replaces the given fields; the secret is unchanged.',
        params: WebhookEndpointId,
        body: Type.Ref('UpdateWebhookEndpointRequest'),
        response: {
          200: json('The endpoint.', Type.Ref('WebhookEndpoint'), exampleWebhookEndpoint),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const { name, url, event_types: eventTypes } = request.body;
      if (url !== undefined) refuseUrl(deps, url);
      const { id, projectId } = named(request);
      const change = { name, url, eventTypes };
      return webhookEndpointToWire(
        found(await store.updateWebhookEndpoint(deps.pool, projectId, id, change), id),
      );
    },
  );

  app.delete<{ Params: WebhookEndpointId }>(
    `${PATH}/:webhook_endpoint_id`,
    {
      schema: {
        operationId: 'deleteWebhookEndpoint',
        tags,
        summary: 'Delete a webhook endpoint',
        description: 'Nothing more is sent to it, including pending deliveries.',
        params: WebhookEndpointId,
        response: {
          200: json('Deleted.', Type.Ref('DeletedWebhookEndpoint'), {
            id: exampleWebhookEndpoint.id,
            object: 'webhook_endpoint.deleted',
            deleted: true,
          }),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const { id, projectId } = named(request);
      if (!(await store.deleteWebhookEndpoint(deps.pool, projectId, id))) throw noSuchEndpoint(id);
      return { id, object: 'webhook_endpoint.deleted', deleted: true };
    },
  );

  app.post<{ Params: WebhookEndpointId; Body: RotateWebhookSecretBody }>(
    `${PATH}/:webhook_endpoint_id/rotate_secret`,
    {
      schema: {
        operationId: 'rotateWebhookEndpointSecret',
        tags,
        summary: "Rotate a webhook endpoint's secret",
        description:
          'The answer contains the new secret. The old one stops signing at once, or after a day if requested.',
        params: WebhookEndpointId,
        body: Type.Ref('RotateWebhookSecretRequest'),
        response: {
          200: json(
            'The endpoint, with its new secret.',
            Type.Ref('WebhookEndpointWithSecret'),
            exampleWebhookEndpointWithSecret,
          ),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const { id, projectId } = named(request);
      const keepSeconds = request.body.keep_old_secret_active_for_24_hours ? OLD_SECRET_SECONDS : 0;
      const replacement = { projectId, id, secret: newSigningSecret(), keepSeconds };
      return withSecret(found(await store.replaceSecret(deps.pool, replacement), id));
    },
  );

  app.post<{ Params: WebhookEndpointId; Body: TestWebhookEndpointBody }>(
    `${PATH}/:webhook_endpoint_id/test`,
    {
      schema: {
        operationId: 'testWebhookEndpoint',
        tags,
        summary: 'Send a sample to a webhook endpoint',
        description: 'Sends one signed sample event about an object that does not exist.',
        params: WebhookEndpointId,
        body: Type.Ref('TestWebhookEndpointRequest'),
        response: {
          200: json("The endpoint's answer.", Type.Ref('WebhookEndpointTest'), {
            object: 'webhook_endpoint.test',
            webhook_endpoint_id: exampleWebhookEndpoint.id,
            event_type: 'fine_tuning.job.succeeded',
            status_code: 200,
            success: true,
          }),
          ...errorResponses(404),
        },
      },
    },
    async request => test(deps, await findEndpoint(deps, request), request.body.event_type),
  );

  app.get<{ Params: WebhookEndpointId; Querystring: WebhookPageQuery }>(
    `${PATH}/:webhook_endpoint_id/deliveries`,
    {
      schema: {
        operationId: 'listWebhookDeliveries',
        tags,
        summary: 'List deliveries of a webhook endpoint',
        description:
          "Events sent to the endpoint with their attempts, newest first. Kept for 30 days. Not in OpenAI's API.",
        params: WebhookEndpointId,
        querystring: WebhookPageQuery,
        response: {
          200: json(
            'A page of deliveries.',
            Type.Ref('ListWebhookDeliveriesResponse'),
            exampleList(exampleWebhookDelivery),
          ),
          ...errorResponses(404),
        },
      },
    },
    async request => {
      const { id } = await findEndpoint(deps, request);
      return toWireList(await listWebhookDeliveries(deps.pool, id, request.query), webhookDeliveryToWire);
    },
  );

  app.get(
    '/v1/webhook_event_types',
    {
      schema: {
        operationId: 'listWebhookEventTypes',
        tags,
        summary: 'List event types',
        description: 'Event types that are sent.',
        response: {
          200: json('The event types.', Type.Ref('WebhookEventTypeList'), {
            object: 'list',
            data: sentEventTypes,
          }),
          ...errorResponses(),
        },
      },
    },
    async () => ({ object: 'list', data: sentEventTypes }),
  );
}

function named({ params, caller }: EndpointRequest): { id: string; projectId: string } {
  return { id: params.webhook_endpoint_id, projectId: caller.projectId };
}

async function findEndpoint(deps: Deps, request: EndpointRequest): Promise<store.WebhookEndpoint> {
  const { id, projectId } = named(request);
  return found(await store.findWebhookEndpoint(deps.pool, projectId, id), id);
}

function found(endpoint: store.WebhookEndpoint | null, id: string): store.WebhookEndpoint {
  if (!endpoint) throw noSuchEndpoint(id);
  return endpoint;
}

function noSuchEndpoint(id: string): ApiError {
  return new ApiError('not_found', `No such webhook endpoint: ${id}`, { param: 'webhook_endpoint_id' });
}

function withSecret(endpoint: store.WebhookEndpoint) {
  return { ...webhookEndpointToWire(endpoint), signing_secret: endpoint.secrets[0]! };
}

/** The addresses of its host name are checked when an event is sent, since they may change. */
function refuseUrl({ config }: Deps, text: string): void {
  try {
    if (!URL.canParse(text)) throw new AddressRefused('it is not a URL');
    checkUrl(new URL(text), config.webhookNetworks);
  } catch (error) {
    if (!(error instanceof AddressRefused)) throw error;
    throw new ApiError('invalid_value', `Invalid 'url': ${error.message}.`, { param: 'url' });
  }
}

async function test({ config }: Deps, { id, url, secrets }: store.WebhookEndpoint, type: string) {
  const event = {
    id: newId('webhookEvent'),
    type,
    createdAt: new Date(),
    data: { id: `${type.replaceAll('.', '_')}_test` },
  };
  const message = { id: newId('webhookDelivery'), url, secrets, event };
  const { statusCode, error } = await sendWebhook(message, { allowed: config.webhookNetworks });
  if (error !== null)
    throw new ApiError('webhook_unreachable', `The endpoint did not answer: ${error}.`, { param: 'url' });
  return {
    object: 'webhook_endpoint.test',
    webhook_endpoint_id: id,
    event_type: type,
    status_code: statusCode,
    success: true,
  };
}
