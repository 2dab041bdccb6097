// API schemas of classifications: texts in, labels or numbers out.
import { type Static, Type } from 'typebox';
import type { ReadLine } from '../data/labelled.ts';
import { ApiError } from '../errors.ts';
import { largest } from '../serving/head-outputs.ts';
import type { ClassificationEvent } from '../serving/protocol.ts';
import { type ChatCompletionBody, readMessages } from './chat-completions.ts';
import { Nullable } from './generation.ts';

const MAX_INPUTS = 2048;
const THRESHOLD = 0.5;
const text = Type.String({ minLength: 1 });

export const exampleClassificationRequest = {
  model: 'ft:anneal-tiny:personal:tickets:a1B2c3D4',
  input: ['I was charged twice.', 'The app does not start.'],
};

export const CreateClassificationRequest = Type.Object(
  {
    model: Type.String({
      minLength: 1,
      description: 'A model fine-tuned with `classification` or `regression`.',
    }),
    input: Type.Optional(
      Type.Union([text, Type.Array(text, { minItems: 1, maxItems: MAX_INPUTS })], {
        description: 'One or several texts. Either `input` or `messages`.',
      }),
    ),
    messages: Type.Optional(
      Type.Array(Type.Ref('ChatCompletionMessage'), {
        minItems: 1,
        description:
          'A conversation. A model trained on texts reads the last user message; a model trained on conversations reads a text as a user message.',
      }),
    ),
    threshold: Nullable(
      Type.Number({ minimum: 0, maximum: 1 }),
      'For models with several labels per text: return labels with a score above this; default 0.5.',
    ),
    user: Nullable(Type.String(), 'No effect.'),
  },
  {
    $id: 'CreateClassificationRequest',
    examples: [exampleClassificationRequest],
    additionalProperties: false,
    description: 'Texts to classify.',
  },
);
/** `Type.Ref` has no static type of its own. */
export type ClassificationBody = Omit<Static<typeof CreateClassificationRequest>, 'messages'> & {
  messages?: ChatCompletionBody['messages'];
};

const nullable = <Schema extends Parameters<typeof Type.Union>[0][number]>(
  schema: Schema,
  description: string,
) => Type.Union([schema, Type.Null()], { description });

export const Classification = Type.Object(
  {
    object: Type.Literal('classification'),
    index: Type.Integer({ description: 'Index of the text in `input`.' }),
    label: nullable(Type.String(), 'The most probable label; null if a text can have several.'),
    labels: nullable(
      Type.Array(Type.String()),
      'Every label above the threshold, if a text can have several; otherwise null.',
    ),
    value: nullable(Type.Number(), 'Value of a regression; otherwise null.'),
    scores: nullable(
      Type.Record(Type.String(), Type.Number()),
      'Probability of each label; they sum to 1 if a text has one label. Null for a regression.',
    ),
  },
  { $id: 'Classification', description: 'Classification of a text.' },
);

export const CreateClassificationResponse = Type.Object(
  {
    object: Type.Literal('list'),
    data: Type.Array(Type.Ref('Classification')),
    model: Type.String({ description: 'As in the request.' }),
    usage: Type.Object({ prompt_tokens: Type.Integer(), total_tokens: Type.Integer() }),
  },
  { $id: 'CreateClassificationResponse', description: 'One classification per text, in order.' },
);

export const exampleClassifications = {
  object: 'list',
  data: [
    {
      object: 'classification',
      index: 0,
      label: 'billing',
      labels: null,
      value: null,
      scores: { billing: 0.97, technical: 0.03 },
    },
  ],
  model: exampleClassificationRequest.model,
  usage: { prompt_tokens: 7, total_tokens: 7 },
};

/** Throws unless exactly one of `input` and `messages` is given. */
export function readClassificationInputs({ input, messages, model }: ClassificationBody): ReadLine[] {
  if (input !== undefined && messages === undefined) return [input].flat().map(each => ({ input: each }));
  if (messages !== undefined && input === undefined)
    return [{ messages: readMessages({ model, messages } as ChatCompletionBody) }];
  const [kind, said] =
    input === undefined
      ? (['missing_required_parameter', "Missing required parameter: 'input' (or 'messages')."] as const)
      : (['invalid_value', "Give either 'input' or 'messages', not both."] as const);
  throw new ApiError(kind, said, { param: 'input' });
}

export function classificationToWire(
  { problem, labels }: ClassificationEvent,
  outputs: readonly number[],
  index: number,
  threshold: ClassificationBody['threshold'],
) {
  const least = threshold ?? THRESHOLD;
  return {
    object: 'classification' as const,
    index,
    label: problem === 'single' ? labels[largest(outputs)]! : null,
    labels: problem === 'multiple' ? labels.filter((_, i) => outputs[i]! > least) : null,
    value: problem === 'regression' ? outputs[0]! : null,
    scores:
      problem === 'regression' ? null : Object.fromEntries(labels.map((label, i) => [label, outputs[i]!])),
  };
}
