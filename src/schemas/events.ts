// API schemas of the events of a job.
import { type Static, Type } from 'typebox';
import type { JobEvent } from '../store/events.ts';
import { Choice } from './choice.ts';
import { After, Limit, ListOf, unixSeconds, type WithDefaults } from './lists.ts';

export const FineTuningJobEvent = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('fine_tuning.job.event'),
    created_at: Type.Integer(),
    level: Choice(['info', 'warn', 'error']),
    message: Type.String(),
    type: Choice(['message', 'metrics']),
    data: Type.Union([Type.Record(Type.String(), Type.Unknown()), Type.Null()], {
      description: 'Metrics of a step, details of a message, or null.',
    }),
  },
  { $id: 'FineTuningJobEvent', description: 'An event of a job.' },
);

export const ListEventsQuery = Type.Object({
  after: After,
  limit: Limit(20, 1000),
  stream: Type.Optional(
    Type.Boolean({
      description:
        '`true`: server-sent events, oldest first, each with one FineTuningJobEvent as `data`, until the job has ended; then `[DONE]`. Starts after the header `Last-Event-ID`, else after `after`.',
    }),
  ),
});
export type ListEventsQuery = WithDefaults<Static<typeof ListEventsQuery>, 'limit'>;

export const ListFineTuningJobEventsResponse = ListOf(
  'ListFineTuningJobEventsResponse',
  Type.Ref('FineTuningJobEvent'),
  'A page of events, newest first.',
);

export function eventToWire(event: JobEvent) {
  return {
    object: 'fine_tuning.job.event' as const,
    id: event.id,
    created_at: unixSeconds(event.createdAt),
    level: event.level,
    message: event.message,
    type: event.type,
    data: event.data,
  };
}

export const exampleEvent = {
  object: 'fine_tuning.job.event',
  id: 'ftevent-Abc123Abc123Abc123Abc123',
  created_at: 1_780_000_000,
  level: 'info',
  message: 'Step 10/90: training loss=1.24',
  type: 'metrics',
  data: { step: 10, total_steps: 90, train_loss: 1.24, train_mean_token_accuracy: 0.61 },
};
