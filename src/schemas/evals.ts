// API schemas of evaluations: data source and testing criteria.
import { type Static, Type } from 'typebox';
import type { SingleGrader } from '../evaluation/graders/grader.ts';
import type { Eval, EvalDataSourceConfig } from '../store/evals.ts';
import { Choice } from './choice.ts';
import { Nullable } from './generation.ts';
import { exampleGrader } from './graders.ts';
import { After, Limit, ListOf, unixSeconds, type WithDefaults } from './lists.ts';
import { Metadata } from './metadata.ts';

const closed = { additionalProperties: false };
const JsonSchema = Type.Unsafe<Record<string, unknown>>({
  type: 'object',
  additionalProperties: true,
  description: 'A JSON Schema.',
});

const config = Type.Union(
  [
    Type.Object(
      {
        type: Type.Literal('custom'),
        item_schema: JsonSchema,
        include_sample_schema: Type.Optional(
          Type.Boolean({ description: "Whether items can refer to a model's answer (`sample`)." }),
        ),
      },
      closed,
    ),
    Type.Object({ type: Type.Literal('logs'), metadata: Nullable(Metadata) }, closed),
    Type.Object({ type: Type.Literal('stored_completions'), metadata: Nullable(Metadata) }, closed),
  ],
  {
    description: 'Schema of the items: your own, or stored chat completions (`logs`, `stored_completions`).',
  },
);

export const exampleEvalRequest = {
  name: 'tickets',
  data_source_config: {
    type: 'custom',
    item_schema: {
      type: 'object',
      properties: { question: { type: 'string' }, label: { type: 'string' } },
      required: ['question', 'label'],
    },
    include_sample_schema: true,
  },
  testing_criteria: [exampleGrader],
  metadata: { team: 'support' },
};

export const CreateEvalRequest = Type.Object(
  {
    name: Nullable(Type.String({ maxLength: 512 })),
    metadata: Nullable(Metadata),
    data_source_config: config,
    testing_criteria: Type.Array(Type.Ref('TestingCriterion'), {
      minItems: 1,
      maxItems: 50,
      description: 'Graders applied to every item. They cannot be changed later.',
    }),
  },
  {
    $id: 'CreateEvalRequest',
    ...closed,
    examples: [exampleEvalRequest],
    description: 'An eval to create.',
  },
);
export type CreateEvalBody = Omit<
  Static<typeof CreateEvalRequest>,
  'testing_criteria' | 'data_source_config'
> & { testing_criteria: SingleGrader[]; data_source_config: EvalDataSourceConfig };

export const UpdateEvalRequest = Type.Object(
  { name: Type.Optional(Type.String({ maxLength: 512 })), metadata: Nullable(Metadata) },
  {
    $id: 'UpdateEvalRequest',
    ...closed,
    examples: [{ name: 'tickets of May' }],
    description: 'Fields to change.',
  },
);
export type UpdateEvalBody = Static<typeof UpdateEvalRequest>;

export const EvalSchema = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('eval'),
    name: Type.String(),
    data_source_config: Type.Object({
      type: Choice(['custom', 'logs', 'stored_completions']),
      schema: JsonSchema,
      metadata: Nullable(Metadata),
    }),
    testing_criteria: Type.Array(Type.Ref('TestingCriterion')),
    created_at: Type.Integer({ description: 'Unix seconds.' }),
    metadata: Type.Union([Metadata, Type.Null()]),
  },
  { $id: 'Eval', description: 'An eval: its data source and criteria.' },
);

export const ListEvalsQuery = Type.Object({
  after: After,
  limit: Limit(20, 100),
  order: Type.Optional(Choice(['asc', 'desc'], { default: 'asc', description: 'Oldest or newest first.' })),
  order_by: Type.Optional(
    Choice(['created_at', 'updated_at'], { default: 'created_at', description: 'Time to order by.' }),
  ),
});
export type ListEvalsQuery = WithDefaults<Static<typeof ListEvalsQuery>, 'limit' | 'order' | 'order_by'>;

export const ListEvalsResponse = ListOf('ListEvalsResponse', Type.Ref('Eval'), 'A page of evals.');

export const EvalId = Type.Object({
  eval_id: Type.String({ description: 'Id of the eval.', examples: ['eval_abc123'] }),
});
export type EvalId = Static<typeof EvalId>;

export const DeleteEvalResponse = Type.Object(
  { object: Type.Literal('eval.deleted'), deleted: Type.Boolean(), eval_id: Type.String() },
  { $id: 'DeleteEvalResponse', description: 'The deleted eval; its runs are deleted too.' },
);

const sampleSchema = {
  type: 'object',
  properties: {
    output_text: { type: 'string' },
    output_json: {},
    output_tools: { type: 'array' },
    choices: { type: 'array' },
  },
  required: ['output_text'],
};

function wholeSchema(item: Record<string, unknown>, sample: boolean): Record<string, unknown> {
  return {
    type: 'object',
    properties: { item, ...(sample ? { sample: sampleSchema } : {}) },
    required: sample ? ['item', 'sample'] : ['item'],
  };
}

function configToWire(given: EvalDataSourceConfig) {
  if (given.type === 'custom')
    return { type: given.type, schema: wholeSchema(given.item_schema, given.include_sample_schema === true) };
  const { type, metadata = null } = given;
  return { type, metadata, schema: wholeSchema({ type: 'object' }, true) };
}

export function evalToWire(row: Eval) {
  return {
    id: row.id,
    object: 'eval' as const,
    name: row.name,
    data_source_config: configToWire(row.dataSourceConfig),
    testing_criteria: row.testingCriteria,
    created_at: unixSeconds(row.createdAt),
    metadata: row.metadata,
  };
}

export const exampleEval = {
  id: 'eval_Abc123Abc123Abc123Abc123',
  object: 'eval',
  name: 'tickets',
  data_source_config: {
    type: 'custom',
    schema: wholeSchema(exampleEvalRequest.data_source_config.item_schema, true),
  },
  testing_criteria: [exampleGrader],
  created_at: 1_780_000_000,
  metadata: { team: 'support' },
};
