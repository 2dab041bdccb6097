// API schemas of embeddings: texts in, vectors out.
import { type Static, Type } from 'typebox';
import type { EmbeddingInput } from '../serving/protocol.ts';
import { Choice } from './choice.ts';
import { Nullable } from './generation.ts';

const MAX_INPUTS = 2048;
const text = Type.String({ minLength: 1 });
const tokens = Type.Array(Type.Integer({ minimum: 0 }), { minItems: 1 });

export const exampleEmbeddingRequest = { model: 'all-MiniLM-L6-v2', input: 'Where is my order?' };

export const CreateEmbeddingRequest = Type.Object(
  {
    model: Type.String({
      minLength: 1,
      description: 'An encoder, a causal model, or a model fine-tuned from one.',
    }),
    input: Type.Union(
      [
        text,
        Type.Array(text, { minItems: 1, maxItems: MAX_INPUTS }),
        tokens,
        Type.Array(tokens, { minItems: 1, maxItems: MAX_INPUTS }),
      ],
      {
        description:
          'One or several texts, or their tokens. The tokenizer adds its special tokens (`[CLS]`) to texts; tokens are used as they are.',
      },
    ),
    encoding_format: Nullable(
      Choice(['float', 'base64']),
      '`float` (default), or `base64`: little-endian float32.',
    ),
    dimensions: Nullable(
      Type.Integer({ minimum: 1 }),
      'Keep this many dimensions. Only useful for models trained for it.',
    ),
    user: Nullable(Type.String(), 'No effect.'),
  },
  {
    $id: 'CreateEmbeddingRequest',
    examples: [exampleEmbeddingRequest],
    additionalProperties: false,
    description: 'Texts to embed.',
  },
);
export type EmbeddingBody = Static<typeof CreateEmbeddingRequest>;

export const Embedding = Type.Object(
  {
    object: Type.Literal('embedding'),
    index: Type.Integer({ description: 'Index of the text in `input`.' }),
    embedding: Type.Union([Type.Array(Type.Number()), Type.String()], {
      description:
        'The vector in the `encoding_format`, normalized to length 1 unless the model says otherwise.',
    }),
  },
  { $id: 'Embedding', description: 'The vector of a text.' },
);

export const CreateEmbeddingResponse = Type.Object(
  {
    object: Type.Literal('list'),
    data: Type.Array(Type.Ref('Embedding')),
    model: Type.String({ description: 'As in the request.' }),
    usage: Type.Object({ prompt_tokens: Type.Integer(), total_tokens: Type.Integer() }),
  },
  { $id: 'CreateEmbeddingResponse', description: 'One vector per text, in order.' },
);

export const exampleEmbeddings = {
  object: 'list',
  data: [{ object: 'embedding', index: 0, embedding: [0.0123, -0.0456, 0.0789] }],
  model: 'all-MiniLM-L6-v2',
  usage: { prompt_tokens: 7, total_tokens: 7 },
};

export function readInputs({ input }: EmbeddingBody): EmbeddingInput[] {
  if (typeof input === 'string') return [input];
  return typeof input[0] === 'number' ? [input as number[]] : (input as EmbeddingInput[]);
}

/** Nine significant digits represent a float32 exactly. */
const toNumbers = (vector: Float32Array): number[] =>
  Array.from(vector, value => Number(value.toPrecision(9)));

const toBase64 = ({ buffer, byteOffset, byteLength }: Float32Array): string =>
  Buffer.from(buffer, byteOffset, byteLength).toString('base64');

export const embeddingToWire = (
  vector: Float32Array,
  index: number,
  format: EmbeddingBody['encoding_format'],
) => ({
  object: 'embedding' as const,
  index,
  embedding: format === 'base64' ? toBase64(vector) : toNumbers(vector),
});
