// POST /v1/classifications: labels or numbers for texts, by a model with a trained head.

import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { estimateTokens } from '../metering/admission.ts';
import {
  type ClassificationBody,
  classificationToWire,
  exampleClassifications,
  readClassificationInputs,
} from '../schemas/classifications.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import { asEnded, endOf, findTarget } from './generation.ts';
import { admit } from './metering.ts';

export function classificationRoutes(app: FastifyInstance, deps: Deps): void {
  app.post<{ Body: ClassificationBody }>(
    '/v1/classifications',
    {
      schema: {
        operationId: 'createClassification',
        tags: ['Classifications'],
        summary: 'Classify texts',
        description:
          "Returns the label of each text with the probability of every label, or its number, from a model fine-tuned for it. Not in OpenAI's API.",
        body: Type.Ref('CreateClassificationRequest'),
        response: {
          200: json('The answers.', Type.Ref('CreateClassificationResponse'), exampleClassifications),
          ...errorResponses(404, 429, 503),
        },
      },
    },
    async (request, reply) => {
      const { body } = request;
      const inputs = readClassificationInputs(body);
      const { model } = await findTarget(deps, request.caller.projectId, body.model);
      const signal = endOf(app, reply);
      const meter = await admit(deps, request, reply, {
        kind: 'classifications',
        model: body.model,
        estimateTokens: () => estimateTokens(inputs, 0),
      });
      const answer = await deps.generation.classify(model, inputs, signal).catch(error => {
        throw asEnded(error, signal);
      });
      const { outputs, promptTokens } = answer;
      meter.note({ inputTokens: promptTokens });
      return {
        object: 'list',
        data: outputs.map((each, index) => classificationToWire(answer, each, index, body.threshold)),
        model: body.model,
        usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
      };
    },
  );
}
