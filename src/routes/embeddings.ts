// POST /v1/embeddings: a vector for each text.

import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { estimateTokens } from '../metering/admission.ts';
import { type EmbeddingBody, embeddingToWire, exampleEmbeddings, readInputs } from '../schemas/embeddings.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import { asEnded, endOf, findTarget } from './generation.ts';
import { admit } from './metering.ts';

export function embeddingRoutes(app: FastifyInstance, deps: Deps): void {
  app.post<{ Body: EmbeddingBody }>(
    '/v1/embeddings',
    {
      schema: {
        operationId: 'createEmbedding',
        tags: ['Embeddings'],
        summary: 'Create embeddings',
        description:
          'Embeds texts. Encoders pool as their sentence-transformers files say (default: mean); causal models use the last token.',
        body: Type.Ref('CreateEmbeddingRequest'),
        response: {
          200: json('The vectors.', Type.Ref('CreateEmbeddingResponse'), exampleEmbeddings),
          ...errorResponses(404, 429, 503),
        },
      },
    },
    async (request, reply) => {
      const { body } = request;
      const inputs = readInputs(body);
      const { model } = await findTarget(deps, request.caller.projectId, body.model);
      const signal = endOf(app, reply);
      const meter = await admit(deps, request, reply, {
        kind: 'embeddings',
        model: body.model,
        estimateTokens: () => estimateTokens(inputs, 0),
      });
      const dimensions = body.dimensions ?? null;
      const { vectors, promptTokens } = await deps.generation
        .embed(model, { inputs, dimensions }, signal)
        .catch(error => {
          throw asEnded(error, signal);
        });
      meter.note({ inputTokens: promptTokens });
      return {
        object: 'list',
        data: vectors.map((vector, index) => embeddingToWire(vector, index, body.encoding_format)),
        model: body.model,
        usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
      };
    },
  );
}
