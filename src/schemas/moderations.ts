// API schemas of moderations: texts in, OpenAI's categories out.
import { type Static, Type } from 'typebox';
import { ApiError } from '../errors.ts';

/** OpenAI's categories. A model has those that are among its labels. */
export const moderationCategories = [
  'harassment',
  'harassment/threatening',
  'hate',
  'hate/threatening',
  'illicit',
  'illicit/violent',
  'self-harm',
  'self-harm/instructions',
  'self-harm/intent',
  'sexual',
  'sexual/minors',
  'violence',
  'violence/graphic',
] as const;

type Category = (typeof moderationCategories)[number];

const text = Type.String({ minLength: 1 });

export const CreateModerationRequest = Type.Object(
  {
    input: Type.Union(
      [
        text,
        Type.Array(text, { minItems: 1, maxItems: 2048 }),
        Type.Array(Type.Object({ type: Type.String() }, { additionalProperties: true }), { minItems: 1 }),
      ],
      { description: 'One or several texts, or parts of `type` `text` that form one text.' },
    ),
    model: Type.Optional(
      Type.Union([Type.String(), Type.Null()], {
        description: 'No effect: the classifier is configured on the server.',
      }),
    ),
  },
  {
    $id: 'CreateModerationRequest',
    additionalProperties: false,
    examples: [{ input: 'I will find you.' }],
    description: 'Texts to moderate.',
  },
);
export type ModerationBody = Static<typeof CreateModerationRequest>;

const eachCategory = <Schema extends object>(schema: Schema, description: string) =>
  Type.Object(
    Object.fromEntries(moderationCategories.map(name => [name, schema])) as Record<Category, never>,
    {
      description,
    },
  );

export const CreateModerationResponse = Type.Object(
  {
    id: Type.String(),
    model: Type.String({ description: 'The configured classifier.' }),
    results: Type.Array(
      Type.Object({
        flagged: Type.Boolean({ description: 'At least one category applies.' }),
        categories: eachCategory(Type.Boolean(), 'Whether each category applies.'),
        category_scores: eachCategory(
          Type.Number(),
          'Probability of each category; 0 if the model does not know it.',
        ),
        category_applied_input_types: eachCategory(
          Type.Array(Type.Literal('text')),
          'Input types considered; empty if the model does not know the category.',
        ),
      }),
    ),
  },
  { $id: 'CreateModerationResponse', description: 'Result of the classifier for each text.' },
);

/** Throws for input other than text. */
export function readModerationInputs({ input }: ModerationBody): string[] {
  if (typeof input === 'string') return [input];
  if (typeof input[0] === 'string') return input as string[];
  const parts = input as { type: string; text?: unknown }[];
  const wrong = parts.findIndex(part => part.type !== 'text' || typeof part.text !== 'string');
  if (wrong >= 0)
    throw new ApiError('unsupported_value', 'Only text can be moderated, not images.', {
      param: `input[${wrong}]`,
    });
  return [parts.map(part => part.text).join('\n')];
}

export interface Classified {
  label: string | null;
  labels: string[] | null;
  scores: Record<string, number> | null;
}

export function moderationToWire({ label, labels, scores }: Classified) {
  const named = new Set(labels ?? [label]);
  const known = scores ?? {};
  const each = <T>(of: (name: Category) => T) =>
    Object.fromEntries(moderationCategories.map(name => [name, of(name)])) as Record<Category, T>;
  return {
    flagged: moderationCategories.some(name => named.has(name)),
    categories: each(name => named.has(name)),
    category_scores: each(name => known[name] ?? 0),
    category_applied_input_types: each(name => (name in known ? ['text' as const] : [])),
  };
}

export const exampleModeration = {
  id: 'modr-Abc123Abc123Abc123Abc123',
  model: 'ft:anneal-tiny:personal:moderation:a1B2c3D4',
  results: [
    moderationToWire({ label: null, labels: ['harassment'], scores: { harassment: 0.93, violence: 0.12 } }),
  ],
};
