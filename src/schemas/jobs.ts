// API schemas of fine-tuning jobs.
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
    Type.Union([auto, Type.Integer({ minimum: 1, maximum: 256 })], { description: 'Examples per step.' }),
  ),
  learning_rate_multiplier: Type.Optional(
    Type.Union([auto, Type.Number({ exclusiveMinimum: 0, maximum: 1000 })], {
      description: 'Factor on the default learning rate.',
    }),
  ),
};

export const Hyperparameters = Type.Object(openaiHyperparameters, {
  $id: 'Hyperparameters',
  additionalProperties: false,
  description: "OpenAI's hyperparameters.",
});

export const SupervisedHyperparameters = Type.Object(
  {
    ...openaiHyperparameters,
    adapter: Type.Optional(
      Choice(['lora', 'full'], { description: '`lora` trains an adapter (default), `full` all weights.' }),
    ),
    rank: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 256, description: 'Rank of the adapter; default 16.' }),
    ),
    alpha: Type.Optional(
      Type.Number({
        exclusiveMinimum: 0,
        maximum: 4096,
        description: 'The adapter is scaled by alpha / rank; default twice the rank.',
      }),
    ),
    dropout: Type.Optional(
      Type.Number({
        minimum: 0,
        maximum: 0.9,
        description: "Dropout on the adapter's input; default 0.",
      }),
    ),
    target_modules: Type.Optional(
      Type.Union([Type.Literal('all-linear'), Type.Array(Type.String({ minLength: 1 }), { minItems: 1 })], {
        description: 'Layers with an adapter, by the ends of their names; default `all-linear`.',
      }),
    ),
    learning_rate: Type.Optional(
      Type.Number({
        exclusiveMinimum: 0,
        maximum: 1,
        description: 'Learning rate; replaces the multiplier.',
      }),
    ),
    weight_decay: Type.Optional(
      Type.Number({ minimum: 0, maximum: 1, description: 'Decoupled weight decay; default 0.01.' }),
    ),
    warmup_ratio: Type.Optional(
      Type.Number({
        minimum: 0,
        maximum: 1,
        description: 'Share of the steps used for warm-up; default 0.05.',
      }),
    ),
    schedule: Type.Optional(
      Choice(['cosine', 'linear', 'constant'], {
        description: 'Learning rate schedule after warm-up; default `cosine`.',
      }),
    ),
    max_grad_norm: Type.Optional(
      Type.Number({
        exclusiveMinimum: 0,
        maximum: 1000,
        description: 'Global norm that gradients are clipped to; default 1.',
      }),
    ),
    max_length: Type.Optional(
      Type.Integer({
        minimum: 8,
        maximum: 1_048_576,
        description: 'Longer examples are cut to this many tokens.',
      }),
    ),
    quantization: Type.Optional(
      Choice(['none', 'int16', 'int8', 'int4', 'nf4'], {
        description: 'Quantization of the frozen base weights during training; default `none`.',
      }),
    ),
    gradient_checkpointing: Type.Optional(
      Type.Boolean({
        description:
          'Recompute activations in the backward pass instead of keeping them: less memory, more time, the same results.',
      }),
    ),
  },
  {
    $id: 'SupervisedHyperparameters',
    additionalProperties: false,
    description: "OpenAI's hyperparameters and Anneal's own; all are optional.",
  },
);

const { properties: supervisedProperties } = SupervisedHyperparameters;

export const DpoHyperparameters = Type.Object(
  {
    ...supervisedProperties,
    beta: Type.Optional(
      Type.Union([auto, Type.Number({ exclusiveMinimum: 0, maximum: 2 })], {
        description: 'How strongly the model is held to its state at the start; default 0.1.',
      }),
    ),
  },
  {
    $id: 'DPOHyperparameters',
    additionalProperties: false,
    description: 'Hyperparameters of supervised training, and the beta of direct preference optimization.',
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
      'Answers sampled per prompt, as a multiple of 8; default 1.',
    ),
    eval_interval: autoOr(
      Type.Integer({ minimum: 1, maximum: 1_000_000 }),
      'Steps between validations; default 5.',
    ),
    eval_samples: autoOr(
      Type.Integer({ minimum: 1, maximum: 64 }),
      'Answers per prompt of a validation; default 2.',
    ),
    reasoning_effort: Type.Optional(
      Choice(['default', 'low', 'medium', 'high'], { description: 'Only `default` is supported.' }),
    ),
    kl_coefficient: Type.Optional(
      Type.Number({
        minimum: 0,
        maximum: 10,
        description: 'Weight of the KL divergence from the model at the start; default 0.04.',
      }),
    ),
    max_completion_length: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 65_536,
        description: 'Most tokens of an answer; default 256, or half of `max_length` if that is less.',
      }),
    ),
  },
  {
    $id: 'ReinforcementHyperparameters',
    additionalProperties: false,
    description: "OpenAI's hyperparameters and Anneal's own for adapters; all are optional.",
  },
);

const ownHyperparameters = { hyperparameters: Type.Optional(Type.Ref('SupervisedHyperparameters')) };

/** A plain JSON schema with `additionalProperties`, like Metadata; `Type.Record` would use `patternProperties`. */
export const ClassWeights = Type.Unsafe<Record<string, number>>({
  $id: 'ClassWeights',
  type: 'object',
  additionalProperties: { type: 'number', exclusiveMinimum: 0 },
  description: 'Loss factor for each label.',
});

/** Parameters of the method, in the property of the request that is named like it. */
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
              'All labels, in the order of the classes; default: those of the training file, sorted.',
          },
        ),
      ),
      class_weights: Type.Optional(
        Type.Union([Type.Literal('balanced'), Type.Ref('ClassWeights'), Type.Null()], {
          description:
            'Loss factors of the classes: by label, or `balanced` for equal total weight. Default: all 1.',
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
            'Divides the cosine similarities: the lower, the more the nearest texts count; default 0.05.',
        }),
      ),
    },
    { additionalProperties: false },
  ),
  reinforcement: Type.Object(
    {
      grader: Type.Ref('Grader', {
        description: 'Grader that scores every answer. `label_model` only within `multi`.',
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
          description: 'Created if it does not exist.',
        }),
        name: Type.Optional(
          Type.Union([Type.String({ minLength: 1 }), Type.Null()], {
            description: "Name of the run; default: the job's id.",
          }),
        ),
        entity: Type.Optional(
          Type.Union([Type.String({ minLength: 1 }), Type.Null()], {
            description: 'Team or user; default: that of the API key.',
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
    description: 'A run on a Weights & Biases server that follows the job.',
  },
);

export type WandbIntegrationBody = Static<typeof WandbIntegration>;

export const CreateFineTuningJobRequest = Type.Object(
  {
    model: Type.String({
      minLength: 1,
      description: 'A base model, or a fine-tuned model to train further.',
    }),
    training_file: Type.String({
      minLength: 1,
      description: 'Id of a file uploaded with purpose `fine-tune`.',
    }),
    validation_file: Type.Optional(
      Type.Union([Type.String({ minLength: 1 }), Type.Null()], {
        description: 'Id of a file to validate on.',
      }),
    ),
    suffix: Type.Optional(
      Type.Union([Type.String({ minLength: 1, maxLength: 64 }), Type.Null()], {
        description: "Part of the new model's name.",
      }),
    ),
    seed: Type.Optional(
      Type.Union([Type.Integer({ minimum: 0, maximum: 2_147_483_647 }), Type.Null()], {
        description: 'The same seed gives the same model; random by default.',
      }),
    ),
    metadata: Type.Optional(Type.Union([Metadata, Type.Null()])),
    method: Type.Optional(
      Type.Object(
        {
          type: Choice(['supervised', 'dpo', 'reinforcement', 'classification', 'regression', 'embedding'], {
            description: "`classification`, `regression` and `embedding` are not in OpenAI's API.",
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
        description: 'Weights & Biases servers to report to; only if the service is configured for it.',
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

/** No additional parameters, so that a misspelt `dry_run` does not start training. */
export const CreateJobQuery = Type.Object(
  {
    dry_run: Type.Optional(
      Type.Boolean({
        default: false,
        description: '`true`: create nothing and answer with a FineTuningDryRun.',
      }),
    ),
  },
  { additionalProperties: false },
);
export type CreateJobQuery = WithDefaults<Static<typeof CreateJobQuery>, 'dry_run'>;

type Settings<Name extends MethodName> = Omit<Static<(typeof methodSettings)[Name]>, 'hyperparameters'> & {
  hyperparameters?: Static<typeof DpoHyperparameters>;
};

/** Overrides the two properties that are a `Type.Ref`, which has no static type of its own. */
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
    model: Type.String({ description: 'The model being fine-tuned.' }),
    fine_tuned_model: Type.Union([Type.String(), Type.Null()], {
      description: 'Name of the result, once it exists.',
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
        batch_size: resolvedNumber('Examples per step.'),
        learning_rate_multiplier: resolvedNumber('Factor on the default learning rate.'),
      },
      { description: '`auto` until the trainer has resolved them.' },
    ),
    method: Type.Object(
      {
        type: Choice(methodsOfJobs),
        ...Object.fromEntries(methodsOfJobs.map(name => [name, Type.Optional(MethodOnJob)])),
      },
      { description: 'The settings, under the name in `type`, with every hyperparameter.' },
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
        description: 'Address of the API that the job was imported from.',
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
