// API schemas of batches.
import { type Static, Type } from 'typebox';
import type { Batch as BatchRow } from '../store/batches.ts';
import { Choice } from './choice.ts';
import { expirySeconds } from './files.ts';
import { After, Limit, ListOf, unixSeconds, type WithDefaults } from './lists.ts';
import { Metadata } from './metadata.ts';

/** The subset that this server supports. */
export const batchEndpoints = [
  '/v1/chat/completions',
  '/v1/completions',
  '/v1/embeddings',
  '/v1/responses',
  '/v1/classifications',
  '/v1/moderations',
] as const;

export const CreateBatchRequest = Type.Object(
  {
    input_file_id: Type.String({
      minLength: 1,
      description: 'A file of purpose `batch`: up to 50,000 lines and 200 MB.',
    }),
    endpoint: Choice(batchEndpoints, { description: 'Endpoint of all requests.' }),
    completion_window: Choice(['24h'], {
      description: 'Time limit; requests not answered within it expire.',
    }),
    metadata: Type.Optional(Type.Union([Metadata, Type.Null()])),
    output_expires_after: Type.Optional(
      Type.Object(
        { anchor: Choice(['created_at']), seconds: Type.Integer(expirySeconds) },
        {
          additionalProperties: false,
          description: 'When the output files are deleted; default: after 30 days.',
        },
      ),
    ),
  },
  {
    $id: 'CreateBatchRequest',
    additionalProperties: false,
    examples: [
      {
        input_file_id: 'file-Abc123Abc123Abc123Abc123',
        endpoint: '/v1/chat/completions',
        completion_window: '24h',
      },
    ],
    description: 'A batch to create.',
  },
);
export type CreateBatchBody = Static<typeof CreateBatchRequest>;

const nullableString = Type.Union([Type.String(), Type.Null()]);
const when = (description: string) =>
  Type.Union([Type.Integer(), Type.Null()], { description: `Unix seconds: ${description}` });

export const Batch = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('batch'),
    endpoint: Type.String(),
    model: Type.Union([Type.String(), Type.Null()], {
      description: 'Model of all requests; null if there are several.',
    }),
    input_file_id: Type.String(),
    completion_window: Type.String(),
    status: Choice([
      'validating',
      'failed',
      'in_progress',
      'finalizing',
      'completed',
      'expired',
      'cancelling',
      'cancelled',
    ]),
    errors: Type.Union(
      [
        Type.Object({
          object: Type.Literal('list'),
          data: Type.Array(
            Type.Object({
              code: Type.String(),
              message: Type.String(),
              param: nullableString,
              line: Type.Union([Type.Integer(), Type.Null()]),
            }),
          ),
        }),
        Type.Null(),
      ],
      { description: 'Mistakes in the input file.' },
    ),
    output_file_id: Type.Union([Type.String(), Type.Null()], {
      description: 'File with the answers, once the batch has ended.',
    }),
    error_file_id: Type.Union([Type.String(), Type.Null()], {
      description: 'File with failed and unanswered requests, once the batch has ended.',
    }),
    created_at: Type.Integer({ description: 'Unix seconds.' }),
    in_progress_at: when('validation succeeded.'),
    expires_at: when('the end of its window.'),
    finalizing_at: when('all requests were processed.'),
    completed_at: when('it ended.'),
    failed_at: when('validation failed.'),
    expired_at: when('its window ended with unanswered requests.'),
    cancelling_at: when('cancellation was requested.'),
    cancelled_at: when('it was cancelled.'),
    request_counts: Type.Object({
      total: Type.Integer(),
      completed: Type.Integer({ description: 'Answered with a 2xx.' }),
      failed: Type.Integer(),
    }),
    usage: Type.Object({
      input_tokens: Type.Integer(),
      input_tokens_details: Type.Object({ cached_tokens: Type.Integer() }),
      output_tokens: Type.Integer(),
      output_tokens_details: Type.Object({ reasoning_tokens: Type.Integer() }),
      total_tokens: Type.Integer(),
    }),
    metadata: Type.Union([Metadata, Type.Null()]),
  },
  { $id: 'Batch', description: 'A batch of requests and its progress.' },
);

export const ListBatchesResponse = ListOf('ListBatchesResponse', Type.Ref('Batch'), 'A page of batches.');

export const BatchId = Type.Object({
  batch_id: Type.String({ description: 'Id of the batch.', examples: ['batch_abc123'] }),
});
export type BatchId = Static<typeof BatchId>;

export const ListBatchesQuery = Type.Object({ after: After, limit: Limit(20, 100) });
export type ListBatchesQuery = WithDefaults<Static<typeof ListBatchesQuery>, 'limit'>;

const seconds = (date: Date | null): number | null => date && unixSeconds(date);

export function batchToWire(batch: BatchRow) {
  return {
    id: batch.id,
    object: 'batch' as const,
    endpoint: batch.endpoint,
    model: batch.model,
    input_file_id: batch.inputFileId,
    completion_window: batch.completionWindow,
    status: batch.status,
    errors: batch.errors && { object: 'list' as const, data: batch.errors },
    output_file_id: batch.outputFileId,
    error_file_id: batch.errorFileId,
    created_at: unixSeconds(batch.createdAt),
    in_progress_at: seconds(batch.inProgressAt),
    expires_at: unixSeconds(batch.expiresAt),
    finalizing_at: seconds(batch.finalizingAt),
    completed_at: seconds(batch.completedAt),
    failed_at: seconds(batch.failedAt),
    expired_at: seconds(batch.expiredAt),
    cancelling_at: seconds(batch.cancellingAt),
    cancelled_at: seconds(batch.cancelledAt),
    request_counts: { total: batch.total, completed: batch.completed, failed: batch.failed },
    usage: {
      input_tokens: batch.inputTokens,
      input_tokens_details: { cached_tokens: 0 },
      output_tokens: batch.outputTokens,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: batch.inputTokens + batch.outputTokens,
    },
    metadata: batch.metadata,
  };
}

export const exampleBatch = {
  id: 'batch_Abc123Abc123Abc123Abc123',
  object: 'batch',
  endpoint: '/v1/chat/completions',
  model: 'anneal-tiny',
  input_file_id: 'file-Abc123Abc123Abc123Abc123',
  completion_window: '24h',
  status: 'in_progress',
  errors: null,
  output_file_id: null,
  error_file_id: null,
  created_at: 1_780_000_000,
  in_progress_at: 1_780_000_002,
  expires_at: 1_780_086_400,
  finalizing_at: null,
  completed_at: null,
  failed_at: null,
  expired_at: null,
  cancelling_at: null,
  cancelled_at: null,
  request_counts: { total: 100, completed: 42, failed: 1 },
  usage: {
    input_tokens: 1500,
    input_tokens_details: { cached_tokens: 0 },
    output_tokens: 900,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: 2400,
  },
  metadata: null,
};
