// Fine-tuning jobs on the wire.
import { type Static, type TSchema, Type } from 'typebox';
import { LONGEST_LABEL, MOST_LABELS } from '../data/labels.ts';
import { type Job, settingsOf } from '../store/jobs.ts';
import type { MethodName } from '../training/protocol.ts';
import { Choice } from './choice.ts';
import { After, Limit, ListOf, unixSeconds, type WithDefaults } from './lists.ts';
import { Metadata } from './metadata.ts';

const auto = Type.Literal('auto');
const nullableString = Type.Union([Type.String(), Type.Null()]);
const nullableInteger = Type.Union([Type.Integer(), Type.Null()]);

const openaiHyperparameters = {
  n_epochs: Type.Optional(
    Type.Union([auto, Type.Integer({ minimum: 1, maximum: 50 })], {
      description: 'Passes over the training file.',
    }),
  ),
  batch_size: Type.Optional(
    Type.Union([auto, Type.Integer({ minimum: 1, maximum: 256 })], { description: 'Examples in each step.' }),
  ),
  learning_rate_multiplier: Type.Optional(
    Type.Union([auto, Type.Number({ exclusiveMinimum: 0 })], {
      description: 'Factor on the default learning rate.',
    }),
  ),
};

export const Hyperparameters = Type.Object(openaiHyperparameters, {
  $id: 'Hyperparameters',
  additionalProperties: false,
  description: 'The hyperparameters that OpenAI knows.',
});

export const SupervisedHyperparameters = Type.Object(
  {
    ...openaiHyperparameters,
    adapter: Type.Optional(
      Choice(['lora', 'full'], { description: 'Train a LoRA adapter (default) or all weights.' }),
    ),
    rank: Type.Optional(Type.Integer({ minimum: 1, maximum: 1024, description: 'Rank of the adapter; 16.' })),
    alpha: Type.Optional(
      Type.Number({ exclusiveMinimum: 0, description: 'The adapter is scaled by alpha / rank.' }),
    ),
    dropout: Type.Optional(
      Type.Number({ minimum: 0, exclusiveMaximum: 1, description: "Dropout on the adapter's input; 0." }),
    ),
    target_modules: Type.Optional(
      Type.Union([Type.Literal('all-linear'), Type.Array(Type.String({ minLength: 1 }), { minItems: 1 })], {
        description: "Layers with an adapter, by the ends of their names; 'all-linear'.",
      }),
    ),
    learning_rate: Type.Optional(
      Type.Number({ exclusiveMinimum: 0, maximum: 1, description: 'Before the multiplier.' }),
    ),
    weight_decay: Type.Optional(
      Type.Number({ minimum: 0, maximum: 1, description: 'Decoupled weight decay.' }),
    ),
    warmup_ratio: Type.Optional(
      Type.Number({ minimum: 0, maximum: 1, description: 'Share of the steps that warm up.' }),
    ),
    schedule: Type.Optional(
      Choice(['cosine', 'linear', 'constant'], { description: 'Learning rate after warm-up.' }),
    ),
    max_grad_norm: Type.Optional(
      Type.Number({ exclusiveMinimum: 0, description: 'Global norm that gradients are clipped to.' }),
    ),
    max_length: Type.Optional(
      Type.Integer({ minimum: 8, description: 'Tokens after which an example is cut.' }),
    ),
    quantization: Type.Optional(
      Choice(['none', 'int16', 'int8', 'int4', 'nf4'], {
        description: 'How an adapter reads the frozen weights while it is trained; none: as they are.',
      }),
    ),
    gradient_checkpointing: Type.Optional(
      Type.Boolean({
        description:
          'Activations are computed again for the gradients instead of kept: less memory, more time, the same numbers.',
      }),
    ),
  },
  {
    $id: 'SupervisedHyperparameters',
    additionalProperties: false,
    description: "OpenAI's hyperparameters, and Anneal's own; all are optional.",
  },
);

const { properties: supervisedProperties } = SupervisedHyperparameters;

export const DpoHyperparameters = Type.Object(
  {
    ...supervisedProperties,
    beta: Type.Optional(
      Type.Union([auto, Type.Number({ exclusiveMinimum: 0, maximum: 2 })], {
        description: 'How strongly the model is held to what it was at the start; 0.1.',
      }),
    ),
  },
  {
    $id: 'DPOHyperparameters',
    additionalProperties: false,
    description: 'Those of supervised training, and the beta of direct preference optimization.',
  },
);

const { adapter: _adapter, quantization: _quantization, ...adapterProperties } = supervisedProperties;
const autoOr = (number: TSchema, description: string) =>
  Type.Optional(Type.Union([auto, number], { description }));

export const ReinforcementHyperparameters = Type.Object(
  {
    ...adapterProperties,
    compute_multiplier: autoOr(
      Type.Number({ exclusiveMinimum: 0.00001, maximum: 10 }),
      'Answers to each prompt of a step, in parts of 8; 1.',
    ),
    eval_interval: autoOr(Type.Integer({ minimum: 1 }), 'Steps between validations; 5.'),
    eval_samples: autoOr(
      Type.Integer({ minimum: 1, maximum: 64 }),
      'Answers to each prompt of a validation; 2.',
    ),
    reasoning_effort: Type.Optional(
      Choice(['default', 'low', 'medium', 'high'], { description: 'Only `default` is served.' }),
    ),
    kl_coefficient: Type.Optional(
      Type.Number({
        minimum: 0,
        maximum: 10,
        description: 'How strongly the model is held to what it was at the start; 0.04.',
      }),
    ),
    max_completion_length: Type.Optional(
      Type.Integer({
        minimum: 1,
        description: 'Tokens of an answer, at most; 256, or half of `max_length`.',
      }),
    ),
  },
  {
    $id: 'ReinforcementHyperparameters',
    additionalProperties: false,
    description: "OpenAI's hyperparameters, and Anneal's own for adapters; all are optional.",
  },
);

const ownHyperparameters = { hyperparameters: Type.Optional(Type.Ref('SupervisedHyperparameters')) };

/** Written out, as Metadata is. */
export const ClassWeights = Type.Unsafe<Record<string, number>>({
  $id: 'ClassWeights',
  type: 'object',
  additionalProperties: { type: 'number', exclusiveMinimum: 0 },
  description: 'Factors by label.',
});

/** What a method is asked for; its place in the request has its name. */
const methodSettings = {
  supervised: Type.Object(ownHyperparameters, { additionalProperties: false }),
  dpo: Type.Object(
    { hyperparameters: Type.Optional(Type.Ref('DPOHyperparameters')) },
    { additionalProperties: false },
  ),
  classification: Type.Object(
    {
      ...ownHyperparameters,
      labels: Type.Optional(
        Type.Union(
          [
            Type.Array(Type.String({ minLength: 1, maxLength: LONGEST_LABEL }), {
              minItems: 1,
              maxItems: MOST_LABELS,
              uniqueItems: true,
            }),
            Type.Null(),
          ],
          {
            description:
              'All labels, in the order of the classes; those of the training file, sorted, when absent.',
          },
        ),
      ),
      class_weights: Type.Optional(
        Type.Union([Type.Literal('balanced'), Type.Ref('ClassWeights'), Type.Null()], {
          description:
            'Factors on the loss of each class: by label, or `balanced`, so that all classes weigh the same. All 1 when absent.',
        }),
      ),
    },
    { additionalProperties: false },
  ),
  regression: Type.Object(ownHyperparameters, { additionalProperties: false }),
  embedding: Type.Object(
    {
      ...ownHyperparameters,
      temperature: Type.Optional(
        Type.Union([Type.Number({ minimum: 0.001, maximum: 1 }), Type.Null()], {
          description:
            'Similarities (cosines) are divided by it: the lower, the more the nearest texts weigh; 0.05.',
        }),
      ),
    },
    { additionalProperties: false },
  ),
  reinforcement: Type.Object(
    {
      grader: Type.Ref('Grader', {
        description: 'What gives every answer its score. `label_model` only within `multi`.',
      }),
      hyperparameters: Type.Optional(Type.Ref('ReinforcementHyperparameters')),
      response_format: Type.Optional(Type.Union([Type.Ref('ResponseFormat'), Type.Null()])),
    },
    { additionalProperties: false },
  ),
} satisfies Record<MethodName, TSchema>;

export const exampleJobRequest = {
  model: 'anneal-tiny',
  training_file: 'file-Abc123Abc123Abc123Abc123',
  suffix: 'tickets',
  seed: 42,
  metadata: { team: 'support' },
  method: { type: 'supervised', supervised: { hyperparameters: { n_epochs: 3, rank: 8 } } },
};

export const WandbIntegration = Type.Object(
  {
    type: Choice(['wandb']),
    wandb: Type.Object(
      {
        project: Type.String({
          minLength: 1,
          maxLength: 128,
          description: 'It is made where it is not there.',
        }),
        name: Type.Optional(
          Type.Union([Type.String({ minLength: 1 }), Type.Null()], {
            description: "The run's name; the job's id where absent.",
          }),
        ),
        entity: Type.Optional(
          Type.Union([Type.String({ minLength: 1 }), Type.Null()], {
            description: "Team or user; the key's own where absent.",
          }),
        ),
        tags: Type.Optional(Type.Array(Type.String({ minLength: 1, maxLength: 64 }), { maxItems: 50 })),
      },
      { additionalProperties: false },
    ),
  },
  {
    $id: 'WandbIntegration',
    additionalProperties: false,
    description: 'A run on a Weights & Biases server that shows how the job goes on.',
  },
);

export type WandbIntegrationBody = Static<typeof WandbIntegration>;

export const CreateFineTuningJobRequest = Type.Object(
  {
    model: Type.String({ minLength: 1, description: 'A base model, or a fine-tuned one to go on from.' }),
    training_file: Type.String({
      minLength: 1,
      description: 'Id of a file uploaded with purpose `fine-tune`.',
    }),
    validation_file: Type.Optional(
      Type.Union([Type.String({ minLength: 1 }), Type.Null()], {
        description: 'Id of a file to measure on; not trained on.',
      }),
    ),
    suffix: Type.Optional(
      Type.Union([Type.String({ minLength: 1, maxLength: 64 }), Type.Null()], {
        description: "Part of the new model's name.",
      }),
    ),
    seed: Type.Optional(
      Type.Union([Type.Integer({ minimum: 0, maximum: 2_147_483_647 }), Type.Null()], {
        description: 'The same seed gives the same model; drawn when absent.',
      }),
    ),
    metadata: Type.Optional(Type.Union([Metadata, Type.Null()])),
    method: Type.Optional(
      Type.Object(
        {
          type: Choice(['supervised', 'dpo', 'reinforcement', 'classification', 'regression', 'embedding'], {
            description: "`classification`, `regression` and `embedding` are Anneal's own.",
          }),
          supervised: Type.Optional(methodSettings.supervised),
          dpo: Type.Optional(methodSettings.dpo),
          classification: Type.Optional(methodSettings.classification),
          regression: Type.Optional(methodSettings.regression),
          embedding: Type.Optional(methodSettings.embedding),
          reinforcement: Type.Optional(methodSettings.reinforcement),
        },
        { additionalProperties: false },
      ),
    ),
    hyperparameters: Type.Optional(
      Type.Ref('Hyperparameters', { deprecated: true, description: 'Use `method`.' }),
    ),
    integrations: Type.Optional(
      Type.Union([Type.Array(Type.Ref('WandbIntegration'), { maxItems: 5 }), Type.Null()], {
        description: 'Where the job can be followed, too; only on servers that are configured for it.',
      }),
    ),
  },
  {
    $id: 'CreateFineTuningJobRequest',
    examples: [exampleJobRequest],
    additionalProperties: false,
    description: 'A job to create.',
  },
);

/** Closed: a misspelt `dry_run` would train. */
export const CreateJobQuery = Type.Object(
  {
    dry_run: Type.Optional(
      Type.Boolean({
        default: false,
        description: '`true`: make nothing, and answer with a FineTuningDryRun: what the job would do.',
      }),
    ),
  },
  { additionalProperties: false },
);
export type CreateJobQuery = WithDefaults<Static<typeof CreateJobQuery>, 'dry_run'>;

type Settings<Name extends MethodName> = Omit<Static<(typeof methodSettings)[Name]>, 'hyperparameters'> & {
  hyperparameters?: Static<typeof DpoHyperparameters>;
};

/** `Type.Ref` has no static type of its own, so the two places that use it are named here. */
export type CreateJobBody = Omit<Static<typeof CreateFineTuningJobRequest>, 'method' | 'hyperparameters'> & {
  method?: {
    type: MethodName;
  } & { [Name in MethodName]?: Settings<Name> };
  hyperparameters?: Static<typeof Hyperparameters>;
};

const resolvedNumber = (description: string) =>
  Type.Union([auto, Type.Number(), Type.Null()], { description });

const MethodOnJob = Type.Object(
  { hyperparameters: Type.Record(Type.String(), Type.Unknown()) },
  { additionalProperties: true },
);

const methodsOfJobs = Object.keys(methodSettings);

export const FineTuningJob = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('fine_tuning.job'),
    created_at: Type.Integer(),
    finished_at: nullableInteger,
    model: Type.String({ description: 'The model that is fine-tuned.' }),
    fine_tuned_model: Type.Union([Type.String(), Type.Null()], {
      description: 'The result, once there is one.',
    }),
    organization_id: Type.String(),
    status: Choice(['validating_files', 'queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled']),
    training_file: Type.String(),
    validation_file: nullableString,
    result_files: Type.Array(Type.String(), { description: 'Ids of files with metrics and reports.' }),
    trained_tokens: Type.Union([Type.Integer(), Type.Null()], {
      description: 'Tokens with a loss, over all epochs.',
    }),
    hyperparameters: Type.Object(
      {
        n_epochs: resolvedNumber('Passes over the training file.'),
        batch_size: resolvedNumber('Examples in each step.'),
        learning_rate_multiplier: resolvedNumber('Factor on the default learning rate.'),
      },
      { description: 'Numbers once the files are validated, `auto` before.' },
    ),
    method: Type.Object(
      {
        type: Choice(methodsOfJobs),
        ...Object.fromEntries(methodsOfJobs.map(name => [name, Type.Optional(MethodOnJob)])),
      },
      { description: 'What was asked for, under the name that `type` has, with every hyperparameter.' },
    ),
    seed: Type.Integer(),
    error: Type.Union([
      Type.Object({ code: Type.String(), message: Type.String(), param: nullableString }),
      Type.Null(),
    ]),
    estimated_finish: nullableInteger,
    integrations: Type.Array(Type.Unknown()),
    metadata: Type.Union([Type.Record(Type.String(), Type.String()), Type.Null()]),
    user_provided_suffix: nullableString,
    usage_metrics: Type.Union([Type.Record(Type.String(), Type.Unknown()), Type.Null()]),
    shared_with_openai: Type.Boolean(),
    imported_from: Type.Optional(
      Type.String({
        description: 'Of a job that ran elsewhere: the address of the API that it was read from.',
      }),
    ),
  },
  { $id: 'FineTuningJob', description: 'A fine-tuning job.' },
);

export const ListJobsQuery = Type.Object({
  after: After,
  limit: Limit(20, 100),
  metadata: Type.Optional(
    Type.Union([Type.Record(Type.String(), Type.String()), Type.Null()], {
      description:
        '`metadata[key]=value`: jobs with all of these pairs. `metadata=null` (or nothing after the `=`): jobs without metadata.',
    }),
  ),
});
export type ListJobsQuery = WithDefaults<Static<typeof ListJobsQuery>, 'limit'>;

export const ListFineTuningJobsResponse = ListOf(
  'ListFineTuningJobsResponse',
  Type.Ref('FineTuningJob'),
  'A page of jobs, newest first.',
);

export const JobId = Type.Object({
  fine_tuning_job_id: Type.String({ description: 'Id of the job.', examples: ['ftjob-abc123'] }),
});
export type JobId = Static<typeof JobId>;

export function jobToWire(job: Job) {
  const { type } = job.method;
  const { hyperparameters: requested, ...settings } = settingsOf(job.method);
  const hyperparameters = {
    n_epochs: 'auto',
    batch_size: 'auto',
    learning_rate_multiplier: 'auto',
    ...requested,
    ...job.hyperparameters,
  };
  const { n_epochs, batch_size, learning_rate_multiplier } = hyperparameters;
  return {
    object: 'fine_tuning.job' as const,
    id: job.id,
    created_at: unixSeconds(job.createdAt),
    finished_at: job.finishedAt && unixSeconds(job.finishedAt),
    model: job.model,
    fine_tuned_model: job.fineTunedModel,
    organization_id: job.organizationId,
    status: job.status,
    training_file: job.trainingFile,
    validation_file: job.validationFile,
    result_files: job.resultFiles,
    trained_tokens: job.trainedTokens,
    hyperparameters: { n_epochs, batch_size, learning_rate_multiplier },
    method: { type, [type]: { ...settings, hyperparameters } },
    seed: job.seed,
    error: job.error,
    estimated_finish: job.estimatedFinish && unixSeconds(job.estimatedFinish),
    integrations: (job.integrations ?? []).map((wandb, index) => ({
      type: 'wandb' as const,
      wandb: { ...wandb, run_id: index === 0 ? job.id : `${job.id}-${index + 1}` },
    })),
    metadata: job.metadata,
    user_provided_suffix: job.suffix,
    usage_metrics: null,
    shared_with_openai: false as const,
    ...(job.importedFrom ? { imported_from: job.importedFrom } : {}),
  };
}

export const exampleJob = {
  object: 'fine_tuning.job',
  id: 'ftjob-Abc123Abc123Abc123Abc123',
  created_at: 1_780_000_000,
  finished_at: null,
  model: 'anneal-tiny',
  fine_tuned_model: null,
  organization_id: 'org-anneal',
  status: 'validating_files',
  training_file: 'file-Abc123Abc123Abc123Abc123',
  validation_file: null,
  result_files: [],
  trained_tokens: null,
  hyperparameters: { n_epochs: 3, batch_size: 'auto', learning_rate_multiplier: 'auto' },
  method: {
    type: 'supervised',
    supervised: {
      hyperparameters: { n_epochs: 3, batch_size: 'auto', learning_rate_multiplier: 'auto', rank: 8 },
    },
  },
  seed: 42,
  error: null,
  estimated_finish: null,
  integrations: [],
  metadata: { team: 'support' },
  user_provided_suffix: 'tickets',
  usage_metrics: null,
  shared_with_openai: false,
};
