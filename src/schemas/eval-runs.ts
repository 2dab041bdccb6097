// API schemas of evaluation runs and their output items.
import { type Static, Type } from 'typebox';
import { NO_TOKENS } from '../evaluation/graders/grader.ts';
import type { EvalRun, OutputItem, RunDataSource } from '../store/eval-runs.ts';
import { Choice } from './choice.ts';
import { EvalId } from './evals.ts';
import { Nullable } from './generation.ts';
import { After, Limit, ListOf, unixSeconds, type WithDefaults } from './lists.ts';
import { Metadata } from './metadata.ts';
import { UnixSeconds } from './times.ts';

const closed = { additionalProperties: false };
const AnyObject = Type.Record(Type.String(), Type.Unknown());

const fileContent = Type.Object(
  {
    type: Type.Literal('file_content'),
    content: Type.Array(Type.Object({ item: AnyObject, sample: Nullable(AnyObject) }, closed), {
      minItems: 1,
    }),
  },
  closed,
);
const fileId = Type.Object({ type: Type.Literal('file_id'), id: Type.String({ minLength: 1 }) }, closed);
const storedCompletions = Type.Object(
  {
    type: Type.Literal('stored_completions'),
    metadata: Nullable(Metadata),
    model: Nullable(Type.String()),
    created_after: Nullable(UnixSeconds('Unix seconds.')),
    created_before: Nullable(UnixSeconds('Unix seconds.')),
    limit: Nullable(Type.Integer({ minimum: 1 })),
  },
  closed,
);

const storedResponses = Type.Object(
  {
    type: Type.Literal('responses'),
    metadata: Nullable(Metadata),
    model: Nullable(Type.String()),
    created_after: Nullable(UnixSeconds('Unix seconds.')),
    created_before: Nullable(UnixSeconds('Unix seconds.')),
    instructions_search: Nullable(Type.String(), 'Text contained in the instructions, ignoring case.'),
    temperature: Nullable(Type.Number()),
    top_p: Nullable(Type.Number()),
    users: Nullable(Type.Array(Type.String())),
    tools: Nullable(Type.Array(Type.String()), 'Names of its tools.'),
    reasoning_effort: Nullable(Type.String(), 'No effect.'),
  },
  closed,
);

const message = Type.Object(
  {
    role: Choice(['user', 'assistant', 'system', 'developer']),
    content: Type.Unknown({ description: 'Text, or parts of text; may contain {{item...}}.' }),
    type: Type.Optional(Type.Literal('message')),
  },
  closed,
);
const inputMessages = Nullable(
  Type.Union([
    Type.Object({ type: Type.Literal('template'), template: Type.Array(message, { minItems: 1 }) }, closed),
    Type.Object(
      {
        type: Type.Literal('item_reference'),
        item_reference: Type.String({ description: 'Path of messages in the item, as `item.input`.' }),
      },
      closed,
    ),
  ]),
);

const sampling = {
  temperature: Nullable(Type.Number({ minimum: 0, maximum: 2 }), '1.'),
  top_p: Nullable(Type.Number({ minimum: 0, maximum: 1 }), '1.'),
  seed: Nullable(Type.Integer(), '42.'),
  max_completion_tokens: Nullable(Type.Integer({ minimum: 1 }), 'As many as fit.'),
  reasoning_effort: Nullable(Type.String(), 'No effect.'),
  tools: Nullable(Type.Array(AnyObject)),
};
const model = Nullable(
  Type.String({ minLength: 1 }),
  'Model that answers; default: answers are part of the data.',
);

const jsonl = Type.Object({ type: Type.Literal('jsonl'), source: Type.Union([fileContent, fileId]) }, closed);
const completions = Type.Object(
  {
    type: Type.Literal('completions'),
    source: Type.Union([fileContent, fileId, storedCompletions]),
    model,
    input_messages: inputMessages,
    sampling_params: Nullable(
      Type.Object({ ...sampling, response_format: Nullable(Type.Ref('ResponseFormat')) }, closed),
    ),
  },
  closed,
);
const responses = Type.Object(
  {
    type: Type.Literal('responses'),
    source: Type.Union([fileContent, fileId, storedResponses]),
    model,
    input_messages: inputMessages,
    sampling_params: Nullable(
      Type.Object({ ...sampling, text: Nullable(Type.Object({ format: Nullable(AnyObject) })) }, closed),
    ),
  },
  closed,
);

const dataSource = Type.Union([jsonl, completions, responses], {
  description:
    'Source of the items. With `completions` and `responses` a model answers them, unless they are stored answers.',
});

export const exampleRunRequest = {
  name: 'after fine-tuning',
  data_source: {
    type: 'completions',
    source: { type: 'file_id', id: 'file-Abc123Abc123Abc123Abc123' },
    model: 'ft:anneal-tiny:personal:tickets:a1B2c3D4',
    input_messages: { type: 'template', template: [{ role: 'user', content: '{{item.question}}' }] },
    sampling_params: { temperature: 0 },
  },
};

export const CreateEvalRunRequest = Type.Object(
  { name: Nullable(Type.String({ maxLength: 512 })), metadata: Nullable(Metadata), data_source: dataSource },
  {
    $id: 'CreateEvalRunRequest',
    ...closed,
    examples: [exampleRunRequest],
    description: 'A run of an eval.',
  },
);
export type CreateEvalRunBody = Omit<Static<typeof CreateEvalRunRequest>, 'data_source'> & {
  data_source: RunDataSource;
};

const runError = Type.Object(
  { code: Type.String(), message: Type.String() },
  { description: 'Code and message; both empty without an error.' },
);

export const EvalRunSchema = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('eval.run'),
    eval_id: Type.String(),
    report_url: Type.String({ description: 'Address of this run.' }),
    status: Choice(['queued', 'in_progress', 'completed', 'canceled', 'failed']),
    model: Type.String({ description: 'Model that answers; empty if answers are part of the data.' }),
    name: Type.String(),
    created_at: Type.Integer({ description: 'Unix seconds.' }),
    result_counts: Type.Object({
      total: Type.Integer({ description: 'Finished items.' }),
      errored: Type.Integer(),
      failed: Type.Integer(),
      passed: Type.Integer(),
    }),
    per_model_usage: Type.Array(
      Type.Object({
        model_name: Type.String(),
        invocation_count: Type.Integer(),
        prompt_tokens: Type.Integer(),
        completion_tokens: Type.Integer(),
        total_tokens: Type.Integer(),
        cached_tokens: Type.Integer(),
      }),
    ),
    per_testing_criteria_results: Type.Array(
      Type.Object({ testing_criteria: Type.String(), passed: Type.Integer(), failed: Type.Integer() }),
    ),
    data_source: Type.Unknown({ description: 'As requested.' }),
    metadata: Type.Union([Metadata, Type.Null()]),
    error: runError,
  },
  { $id: 'EvalRun', description: 'A run of an eval.' },
);

export const ListRunsQuery = Type.Object({
  after: After,
  limit: Limit(20, 100),
  order: Type.Optional(Choice(['asc', 'desc'], { default: 'asc', description: 'Oldest or newest first.' })),
  status: Type.Optional(
    Choice(['queued', 'in_progress', 'completed', 'canceled', 'failed'], {
      description: 'Only with this status.',
    }),
  ),
});
export type ListRunsQuery = WithDefaults<Static<typeof ListRunsQuery>, 'limit' | 'order'>;

export const ListEvalRunsResponse = ListOf('ListEvalRunsResponse', Type.Ref('EvalRun'), 'A page of runs.');

export const RunId = Type.Object({
  ...EvalId.properties,
  run_id: Type.String({ description: 'Id of the run.', examples: ['evalrun_abc123'] }),
});
export type RunId = Static<typeof RunId>;

export const DeleteEvalRunResponse = Type.Object(
  { object: Type.Literal('eval.run.deleted'), deleted: Type.Boolean(), run_id: Type.String() },
  { $id: 'DeleteEvalRunResponse', description: 'The deleted run; its items are deleted too.' },
);

// ---- items

const said = Type.Array(
  Type.Object({ role: Type.String(), content: Type.String() }, { additionalProperties: true }),
);

export const EvalRunOutputItem = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('eval.run.output_item'),
    run_id: Type.String(),
    eval_id: Type.String(),
    created_at: Type.Integer({ description: 'Unix seconds.' }),
    status: Choice(['pass', 'fail', 'error']),
    datasource_item_id: Type.Integer({ description: 'Index in the data source, from 0.' }),
    datasource_item: AnyObject,
    results: Type.Array(
      Type.Object(
        {
          name: Type.String(),
          type: Type.String(),
          score: Type.Number(),
          passed: Type.Boolean(),
          sample: Type.Union([AnyObject, Type.Null()], {
            description: 'Input and output of a judging model.',
          }),
          error: Type.Optional(runError),
        },
        { additionalProperties: true },
      ),
    ),
    sample: Type.Object({
      input: said,
      output: said,
      finish_reason: Type.String(),
      model: Type.String(),
      usage: Type.Object({
        total_tokens: Type.Integer(),
        completion_tokens: Type.Integer(),
        prompt_tokens: Type.Integer(),
        cached_tokens: Type.Integer(),
      }),
      error: runError,
      temperature: Type.Number(),
      max_completion_tokens: Type.Integer({ description: '0: as many as fit.' }),
      top_p: Type.Number(),
      seed: Type.Integer(),
    }),
  },
  { $id: 'EvalRunOutputItem', description: 'Result of one item.' },
);

export const ListItemsQuery = Type.Object({
  after: After,
  limit: Limit(20, 100),
  order: Type.Optional(Choice(['asc', 'desc'], { default: 'asc', description: 'Order of the data.' })),
  status: Type.Optional(Choice(['fail', 'pass', 'error'], { description: 'Only with this status.' })),
});
export type ListItemsQuery = WithDefaults<Static<typeof ListItemsQuery>, 'limit' | 'order'>;

export const ListEvalRunOutputItemsResponse = ListOf(
  'ListEvalRunOutputItemsResponse',
  Type.Ref('EvalRunOutputItem'),
  'A page of items.',
);

export const OutputItemId = Type.Object({
  ...RunId.properties,
  output_item_id: Type.String({ description: 'Id of the item.', examples: ['outputitem_abc123'] }),
});
export type OutputItemId = Static<typeof OutputItemId>;

/** `origin`: of this server, as seen by the client. */
export function runToWire(row: EvalRun, origin: string) {
  const { passed, failed, errored } = row;
  return {
    id: row.id,
    object: 'eval.run' as const,
    eval_id: row.evalId,
    report_url: `${origin}/v1/evals/${row.evalId}/runs/${row.id}`,
    status: row.status,
    model: row.model ?? '',
    name: row.name,
    created_at: unixSeconds(row.createdAt),
    result_counts: { total: passed + failed + errored, errored, failed, passed },
    per_model_usage: row.modelUsage,
    per_testing_criteria_results: row.criteriaResults,
    data_source: row.dataSource,
    metadata: row.metadata,
    error: row.error ?? { code: '', message: '' },
  };
}

export function outputItemToWire(row: OutputItem, evalId: string) {
  return {
    id: row.id,
    object: 'eval.run.output_item' as const,
    run_id: row.runId,
    eval_id: evalId,
    created_at: unixSeconds(row.createdAt),
    status: row.status,
    datasource_item_id: row.itemIndex,
    datasource_item: row.item,
    results: row.results,
    sample: row.sample,
  };
}

export const exampleRun = {
  id: 'evalrun_Abc123Abc123Abc123Abc123',
  object: 'eval.run',
  eval_id: 'eval_Abc123Abc123Abc123Abc123',
  report_url:
    'http://127.0.0.1:8787/v1/evals/eval_Abc123Abc123Abc123Abc123/runs/evalrun_Abc123Abc123Abc123Abc123',
  status: 'queued',
  model: 'ft:anneal-tiny:personal:tickets:a1B2c3D4',
  name: 'after fine-tuning',
  created_at: 1_780_000_000,
  result_counts: { total: 0, errored: 0, failed: 0, passed: 0 },
  per_model_usage: [],
  per_testing_criteria_results: [{ testing_criteria: 'same label', passed: 0, failed: 0 }],
  data_source: exampleRunRequest.data_source,
  metadata: null,
  error: { code: '', message: '' },
};

export const exampleOutputItem = {
  id: 'outputitem_Abc123Abc123Abc123Abc123',
  object: 'eval.run.output_item',
  run_id: exampleRun.id,
  eval_id: exampleRun.eval_id,
  created_at: 1_780_000_010,
  status: 'pass',
  datasource_item_id: 0,
  datasource_item: { question: 'My parcel came broken.', label: 'returns' },
  results: [{ name: 'same label', type: 'string-check-grader', score: 1, passed: true, sample: null }],
  sample: {
    input: [{ role: 'user', content: 'My parcel came broken.' }],
    output: [{ role: 'assistant', content: 'returns' }],
    finish_reason: 'stop',
    model: exampleRun.model,
    usage: NO_TOKENS,
    error: { code: '', message: '' },
    temperature: 0,
    max_completion_tokens: 0,
    top_p: 1,
    seed: 42,
  },
};
