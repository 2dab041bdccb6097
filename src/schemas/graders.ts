// API schemas of graders and of the results of running them.
import { type Static, Type } from 'typebox';
import {
  type Grader as AnyGrader,
  addUsage,
  type Grade,
  type GraderErrorKind,
  graderErrors,
  NO_TOKENS,
  similarityMetrics,
  type TokenUsage,
} from '../evaluation/graders/grader.ts';
import { Choice } from './choice.ts';
import { Nullable } from './generation.ts';

const name = Type.String({ minLength: 1, description: 'Name of the grader.' });
const template = (description: string) =>
  Type.String({ description: `${description} May contain {{item...}} and {{sample...}}.` });
const passThreshold = Type.Number({ description: 'Lowest passing score.' });

const contentPart = Type.Union([
  Type.String(),
  Type.Object(
    {
      type: Choice(['input_text', 'output_text', 'text', 'input_image', 'input_audio']),
      text: Type.Optional(Type.String()),
      image_url: Type.Optional(Type.String()),
      detail: Type.Optional(Type.String()),
      input_audio: Type.Optional(Type.Unknown()),
    },
    { additionalProperties: false, description: 'Only text is supported.' },
  ),
]);

export const EvalItem = Type.Object(
  {
    role: Choice(['user', 'assistant', 'system', 'developer']),
    content: Type.Union([contentPart, Type.Array(contentPart)], {
      description: 'Text, or parts of text; may contain variables.',
    }),
    type: Type.Optional(Type.Literal('message')),
  },
  { $id: 'EvalItem', additionalProperties: false, description: 'A message template.' },
);

const messages = Type.Array(Type.Ref('EvalItem'), { minItems: 1 });

const stringCheck = {
  type: Type.Literal('string_check'),
  name,
  input: template('The text to check.'),
  reference: template('The text to compare with.'),
  operation: Choice(['eq', 'ne', 'like', 'ilike'], {
    description: 'Equal, not equal, contains, contains ignoring case.',
  }),
};

const textSimilarity = {
  type: Type.Literal('text_similarity'),
  name,
  input: template('The text to judge.'),
  reference: template('The expected text.'),
  evaluation_metric: Choice(similarityMetrics, { description: 'Similarity metric; see docs/api.md.' }),
};

/** Named, since some client generators fail when the same unnamed object occurs in several schemas. */
export const GraderScoreModelSamplingParams = Type.Object(
  {
    seed: Nullable(Type.Integer()),
    top_p: Nullable(Type.Number({ minimum: 0, maximum: 1 })),
    temperature: Nullable(Type.Number({ minimum: 0, maximum: 2 }), '0.'),
    max_completions_tokens: Nullable(Type.Integer({ minimum: 1 })),
    reasoning_effort: Nullable(Type.String(), 'No effect.'),
  },
  {
    $id: 'GraderScoreModelSamplingParams',
    additionalProperties: false,
    description: 'Sampling of the judging model.',
  },
);

const scoreModel = {
  type: Type.Literal('score_model'),
  name,
  model: Type.String({
    minLength: 1,
    description: 'A model served here, or one of the API in ANNEAL_GRADER_URL.',
  }),
  input: messages,
  range: Type.Optional(
    Type.Array(Type.Number(), {
      minItems: 2,
      maxItems: 2,
      description: 'Lowest and highest score; default 0 and 1.',
    }),
  ),
  sampling_params: Type.Optional(Type.Ref('GraderScoreModelSamplingParams')),
};

const labelModel = {
  type: Type.Literal('label_model'),
  name,
  model: scoreModel.model,
  input: messages,
  labels: Type.Array(Type.String({ minLength: 1 }), { minItems: 1 }),
  passing_labels: Type.Array(Type.String(), { minItems: 1 }),
};

const python = {
  type: Type.Literal('python'),
  name,
  source: Type.String({
    minLength: 1,
    description: '`def grade(sample: dict, item: dict) -> float`; run without files, network or environment.',
  }),
  image_tag: Type.Optional(Type.String({ description: 'No effect.' })),
};

const closed = { additionalProperties: false };

/** Named, since some client generators omit types that contain a union of unnamed objects. Discriminated by `type`. */
export const GraderStringCheck = Type.Object(stringCheck, {
  $id: 'GraderStringCheck',
  ...closed,
  description: 'Compares two texts: 1 or 0.',
});
export const GraderTextSimilarity = Type.Object(textSimilarity, {
  $id: 'GraderTextSimilarity',
  ...closed,
  description: 'Similarity of two texts.',
});
export const GraderScoreModel = Type.Object(scoreModel, {
  $id: 'GraderScoreModel',
  ...closed,
  description: 'A score given by a model.',
});
export const GraderLabelModel = Type.Object(labelModel, {
  $id: 'GraderLabelModel',
  ...closed,
  description: 'Whether a model chooses a passing label.',
});
export const GraderPython = Type.Object(python, {
  $id: 'GraderPython',
  ...closed,
  description: 'A score computed by a Python function.',
});

const parts = [
  Type.Ref('GraderStringCheck'),
  Type.Ref('GraderTextSimilarity'),
  Type.Ref('GraderScoreModel'),
  Type.Ref('GraderLabelModel'),
  Type.Ref('GraderPython'),
];

const namedByKey = [stringCheck, textSimilarity, scoreModel, labelModel, python].map(fields =>
  Type.Object({ ...fields, name: Type.Optional(name) }, closed),
);

export const GradersByName = Type.Record(Type.String({ pattern: '^.+$' }), Type.Union(namedByKey), {
  $id: 'GradersByName',
  description: 'Graders by their names in the formula.',
});

export const GraderMulti = Type.Object(
  {
    type: Type.Literal('multi'),
    name: Type.Optional(name),
    graders: Type.Union(
      [Type.Array(Type.Union(parts), { minItems: 1 }), ...parts, Type.Ref('GradersByName')],
      {
        description: 'Graders by their names in the formula, a list of graders, or one.',
      },
    ),
    calculate_output: Type.String({
      minLength: 1,
      description:
        'A formula over the scores: numbers, names, + - * / ^ ( ), min max abs floor ceil exp sqrt log.',
    }),
  },
  { $id: 'GraderMulti', ...closed, description: 'A formula over the scores of other graders.' },
);

/** A grader outside a multi grader needs no name. */
const singlePython = Type.Object({ ...python, name: Type.Optional(name) }, closed);

export const Grader = Type.Union([...parts.slice(0, -1), singlePython, Type.Ref('GraderMulti')], {
  $id: 'Grader',
  description: 'Scores a sample.',
});

/** Testing criteria of an evaluation: graders with a pass threshold. */
export const TestingCriterion = Type.Union(
  [
    Type.Object(labelModel, closed),
    Type.Object(stringCheck, closed),
    Type.Object({ ...textSimilarity, pass_threshold: passThreshold }, closed),
    Type.Object({ ...python, pass_threshold: Type.Optional(passThreshold) }, closed),
    Type.Object({ ...scoreModel, pass_threshold: Type.Optional(passThreshold) }, closed),
  ],
  { $id: 'TestingCriterion', description: 'A grader applied to every item of an eval.' },
);

export const exampleGrader = {
  type: 'string_check',
  name: 'same label',
  input: '{{sample.output_text}}',
  reference: '{{item.label}}',
  operation: 'eq',
};

export const RunGraderRequest = Type.Object(
  {
    grader: Type.Ref('Grader'),
    model_sample: Type.String({
      description: '`sample.output_text`, and `sample.output_json` if it is JSON.',
    }),
    item: Type.Optional(Type.Record(Type.String(), Type.Unknown(), { description: 'Value of `{{item}}`.' })),
  },
  {
    $id: 'RunGraderRequest',
    ...closed,
    examples: [{ grader: exampleGrader, model_sample: 'returns', item: { label: 'returns' } }],
    description: 'A grader and a sample to score.',
  },
);
/** `Type.Ref` has no static type of its own. */
export type RunGraderBody = Omit<Static<typeof RunGraderRequest>, 'grader'> & { grader: AnyGrader };

export const ValidateGraderRequest = Type.Object(
  { grader: Type.Ref('Grader') },
  {
    $id: 'ValidateGraderRequest',
    ...closed,
    examples: [{ grader: exampleGrader }],
    description: 'A grader to validate.',
  },
);
export type ValidateGraderBody = { grader: AnyGrader };

export const ValidateGraderResponse = Type.Object(
  { grader: Type.Ref('Grader') },
  { $id: 'ValidateGraderResponse', description: 'The grader, as it would be used.' },
);

const nullableString = Type.Union([Type.String(), Type.Null()]);

export const RunGraderResponse = Type.Object(
  {
    reward: Type.Number(),
    metadata: Type.Object({
      name: Type.String(),
      type: Type.String(),
      errors: Type.Object({
        ...Object.fromEntries(graderErrors.map(kind => [kind, Type.Boolean()])),
        python_grader_server_error_type: nullableString,
        python_grader_runtime_error_details: nullableString,
        model_grader_server_error_details: nullableString,
      }),
      execution_time: Type.Number({ description: 'Seconds.' }),
      scores: Type.Record(Type.String(), Type.Number()),
      token_usage: Type.Union([Type.Integer(), Type.Null()], { description: 'Tokens of judging models.' }),
      sampled_model_name: nullableString,
    }),
    sub_rewards: Type.Record(Type.String(), Type.Number()),
    model_grader_token_usage_per_model: Type.Record(Type.String(), Type.Unknown()),
  },
  { $id: 'RunGraderResponse', description: 'Result of the grader.' },
);

/** Adds the name, which some examples of OpenAI's guide omit. */
export function withName(grader: AnyGrader): AnyGrader {
  return { ...grader, name: grader.name ?? grader.type };
}

export function gradeToWire(grader: AnyGrader, grade: Grade, seconds: number) {
  const details = (kind: GraderErrorKind): string | null =>
    grade.errors.find(error => error.kind === kind)?.details ?? null;
  const tokens = grade.usage.reduce((sum, use) => sum + use.tokens.total_tokens, 0);
  return {
    reward: grade.score,
    metadata: {
      name: grader.name,
      type: grader.type,
      errors: {
        ...Object.fromEntries(
          graderErrors.map(kind => [kind, grade.errors.some(error => error.kind === kind)]),
        ),
        python_grader_server_error_type: details('python_grader_server_error'),
        python_grader_runtime_error_details: details('python_grader_runtime_error'),
        model_grader_server_error_details: details('model_grader_server_error'),
      },
      execution_time: seconds,
      scores: grade.scores,
      token_usage: grade.usage.length > 0 ? tokens : null,
      sampled_model_name: grade.usage[0]?.model ?? null,
    },
    sub_rewards: grade.scores,
    model_grader_token_usage_per_model: sumUsage(grade.usage),
  };
}

function sumUsage(usage: Grade['usage']): Record<string, TokenUsage> {
  const sums: Record<string, TokenUsage> = {};
  for (const { model, tokens } of usage) sums[model] = addUsage(sums[model] ?? NO_TOKENS, tokens);
  return sums;
}
