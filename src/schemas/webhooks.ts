// API schemas of webhook endpoints and their deliveries.
import { type Static, Type } from 'typebox';
import type { WebhookDelivery as DeliveryRow } from '../store/webhook-deliveries.ts';
import type { WebhookEndpoint as EndpointRow } from '../store/webhooks.ts';
import { secretHint } from '../webhooks/signature.ts';
import { Choice } from './choice.ts';
import { After, Limit, ListOf, unixSeconds, type WithDefaults } from './lists.ts';

/** Event types that this service sends. */
export const sentEventTypes = [
  'fine_tuning.job.succeeded',
  'fine_tuning.job.failed',
  'fine_tuning.job.cancelled',
  'batch.completed',
  'batch.failed',
  'batch.expired',
  'batch.cancelled',
  'eval.run.succeeded',
  'eval.run.failed',
  'eval.run.canceled',
  'response.completed',
  'response.failed',
  'response.cancelled',
  'response.incomplete',
] as const;

/** Other event types of OpenAI: accepted for compatibility, never sent. */
const unsentEventTypes = [
  'realtime.call.incoming',
  'video.completed',
  'video.failed',
  'agent.environment.ready',
  'agent.environment.failed',
  'agent.environment.suspended',
  'agent.environment.expired',
  'agent.session.created',
  'agent.session.action_required',
  'agent.session.in_progress',
  'agent.session.idle',
  'agent.session.failed',
  'safety.alert.created',
] as const;

const EventType = Choice([...sentEventTypes, ...unsentEventTypes]);

const settings = {
  name: Type.String({ minLength: 1, maxLength: 256, description: 'Display name.' }),
  url: Type.String({ minLength: 1, maxLength: 2048, description: 'https:// URL to send events to.' }),
  event_types: Type.Array(EventType, {
    minItems: 1,
    uniqueItems: true,
    description: 'Event types to send.',
  }),
};

export const CreateWebhookEndpointRequest = Type.Object(settings, {
  $id: 'CreateWebhookEndpointRequest',
  additionalProperties: false,
  examples: [
    {
      name: 'training',
      url: 'https://hooks.example.com/anneal',
      event_types: ['fine_tuning.job.succeeded', 'fine_tuning.job.failed'],
    },
  ],
  description: 'An endpoint to create.',
});
export type CreateWebhookEndpointBody = Static<typeof CreateWebhookEndpointRequest>;

export const UpdateWebhookEndpointRequest = Type.Object(
  {
    name: Type.Optional(settings.name),
    url: Type.Optional(settings.url),
    event_types: Type.Optional(settings.event_types),
  },
  {
    $id: 'UpdateWebhookEndpointRequest',
    additionalProperties: false,
    examples: [{ event_types: ['fine_tuning.job.succeeded'] }],
    description: 'Fields to change. `event_types` replaces the whole list.',
  },
);
export type UpdateWebhookEndpointBody = Static<typeof UpdateWebhookEndpointRequest>;

export const RotateWebhookSecretRequest = Type.Object(
  {
    keep_old_secret_active_for_24_hours: Type.Optional(
      Type.Boolean({ default: false, description: 'Sign with both secrets for a day.' }),
    ),
  },
  {
    $id: 'RotateWebhookSecretRequest',
    additionalProperties: false,
    examples: [{ keep_old_secret_active_for_24_hours: true }],
    description: 'Options of the rotation.',
  },
);
export type RotateWebhookSecretBody = Static<typeof RotateWebhookSecretRequest>;

export const TestWebhookEndpointRequest = Type.Object(
  { event_type: EventType },
  {
    $id: 'TestWebhookEndpointRequest',
    additionalProperties: false,
    examples: [{ event_type: 'fine_tuning.job.succeeded' }],
    description: 'Event type to send as a sample.',
  },
);
export type TestWebhookEndpointBody = Static<typeof TestWebhookEndpointRequest>;

const endpointFields = {
  id: Type.String(),
  object: Type.Literal('webhook_endpoint'),
  name: Type.String(),
  url: Type.String(),
  event_types: Type.Array(Type.String()),
  created_at: Type.Integer({ description: 'Unix seconds.' }),
  updated_at: Type.Integer({ description: 'Unix seconds of the last change.' }),
  signing_secret_hint: Type.Union([Type.String(), Type.Null()], {
    description: 'Last characters of the secret.',
  }),
};

export const WebhookEndpoint = Type.Object(endpointFields, {
  $id: 'WebhookEndpoint',
  description: 'Endpoints that events are sent to.',
});

export const WebhookEndpointWithSecret = Type.Object(
  {
    ...endpointFields,
    signing_secret: Type.String({
      description: 'Secret that signs deliveries. It is shown only in this answer.',
    }),
  },
  { $id: 'WebhookEndpointWithSecret', description: 'An endpoint with its new secret.' },
);

export const DeletedWebhookEndpoint = Type.Object(
  { id: Type.String(), object: Type.Literal('webhook_endpoint.deleted'), deleted: Type.Boolean() },
  { $id: 'DeletedWebhookEndpoint', description: 'The deleted object.' },
);

export const WebhookEndpointTest = Type.Object(
  {
    object: Type.Literal('webhook_endpoint.test'),
    webhook_endpoint_id: Type.String(),
    event_type: Type.String(),
    status_code: Type.Integer({ description: 'Status the endpoint answered with.' }),
    success: Type.Boolean({ description: 'The endpoint answered, with any status.' }),
  },
  { $id: 'WebhookEndpointTest', description: 'Result of a sample delivery.' },
);

export const WebhookEventTypeList = Type.Object(
  { object: Type.Literal('list'), data: Type.Array(Type.String()) },
  { $id: 'WebhookEventTypeList', description: 'Event types that are sent.' },
);

const nullableTime = Type.Union([Type.Integer(), Type.Null()]);

export const WebhookDelivery = Type.Object(
  {
    id: Type.String({ description: 'Sent as `webhook-id`, the same at each attempt.' }),
    object: Type.Literal('webhook_endpoint.delivery'),
    webhook_endpoint_id: Type.String(),
    event_id: Type.String(),
    event_type: Type.String(),
    data: Type.Record(Type.String(), Type.Unknown(), { description: 'Data of the event.' }),
    status: Choice(['pending', 'delivered', 'failed'], {
      description: '`pending`: it is retried for 72 hours.',
    }),
    attempts: Type.Integer({ description: 'Number of attempts.' }),
    created_at: Type.Integer({ description: 'Unix seconds.' }),
    delivered_at: Type.Unsafe<number | null>({ ...nullableTime, description: 'Unix seconds.' }),
    last_attempt_at: Type.Unsafe<number | null>({ ...nullableTime, description: 'Unix seconds.' }),
    next_attempt_at: Type.Unsafe<number | null>({
      ...nullableTime,
      description: 'Unix seconds; null once it has ended.',
    }),
    last_status_code: Type.Union([Type.Integer(), Type.Null()], {
      description: 'Last status of the endpoint; null if it did not answer.',
    }),
    last_error: Type.Union([Type.String(), Type.Null()], { description: 'Why the last attempt failed.' }),
  },
  { $id: 'WebhookDelivery', description: 'An event for an endpoint, and its delivery status.' },
);

export const ListWebhookEndpointsResponse = ListOf(
  'ListWebhookEndpointsResponse',
  Type.Ref('WebhookEndpoint'),
  'A page of endpoints.',
);
export const ListWebhookDeliveriesResponse = ListOf(
  'ListWebhookDeliveriesResponse',
  Type.Ref('WebhookDelivery'),
  'A page of deliveries.',
);

export const WebhookEndpointId = Type.Object({
  webhook_endpoint_id: Type.String({ description: 'Id of the endpoint.', examples: ['whe_abc123'] }),
});
export type WebhookEndpointId = Static<typeof WebhookEndpointId>;

export const WebhookPageQuery = Type.Object({ after: After, limit: Limit(20, 100) });
export type WebhookPageQuery = WithDefaults<Static<typeof WebhookPageQuery>, 'limit'>;

export function webhookEndpointToWire(endpoint: EndpointRow) {
  return {
    id: endpoint.id,
    object: 'webhook_endpoint' as const,
    name: endpoint.name,
    url: endpoint.url,
    event_types: endpoint.eventTypes,
    created_at: unixSeconds(endpoint.createdAt),
    updated_at: unixSeconds(endpoint.updatedAt),
    signing_secret_hint: secretHint(endpoint.secrets[0]!),
  };
}

const seconds = (date: Date | null): number | null => date && unixSeconds(date);

export function webhookDeliveryToWire(delivery: DeliveryRow) {
  return {
    id: delivery.id,
    object: 'webhook_endpoint.delivery' as const,
    webhook_endpoint_id: delivery.endpointId,
    event_id: delivery.eventId,
    event_type: delivery.eventType,
    data: delivery.data,
    status: delivery.status,
    attempts: delivery.attempts,
    created_at: unixSeconds(delivery.createdAt),
    delivered_at: seconds(delivery.deliveredAt),
    last_attempt_at: seconds(delivery.lastAttemptAt),
    next_attempt_at: seconds(delivery.nextAttemptAt),
    last_status_code: delivery.lastStatusCode,
    last_error: delivery.lastError,
  };
}

export const exampleWebhookEndpoint = {
  id: 'whe_Abc123Abc123Abc123Abc123',
  object: 'webhook_endpoint',
  name: 'training',
  url: 'https://hooks.example.com/anneal',
  event_types: ['fine_tuning.job.succeeded', 'fine_tuning.job.failed'],
  created_at: 1_780_000_000,
  updated_at: 1_780_000_000,
  signing_secret_hint: 'whsec_...40c=',
};

export const exampleWebhookEndpointWithSecret = {
  ...exampleWebhookEndpoint,
  signing_secret: 'whsec_RdvaYFYUXuIFuEbvZHwMfYFhUf7aMYjYcmM24+Aj40c=',
};

export const exampleWebhookDelivery = {
  id: 'wh_Abc123Abc123Abc123Abc123',
  object: 'webhook_endpoint.delivery',
  webhook_endpoint_id: exampleWebhookEndpoint.id,
  event_id: 'evt_Abc123Abc123Abc123Abc123',
  event_type: 'fine_tuning.job.succeeded',
  data: { id: 'ftjob-Abc123Abc123Abc123Abc123' },
  status: 'pending',
  attempts: 2,
  created_at: 1_780_000_000,
  delivered_at: null,
  last_attempt_at: 1_780_000_006,
  next_attempt_at: 1_780_000_017,
  last_status_code: 503,
  last_error: null,
};
