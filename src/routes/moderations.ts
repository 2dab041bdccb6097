// POST /v1/moderations: classifies texts with the model in ANNEAL_MODERATION_MODEL. Not served without one.

import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import type { Deps } from '../deps.ts';
import { ApiError } from '../errors.ts';
import { newId } from '../ids.ts';
import { estimateTokens } from '../metering/admission.ts';
import { classificationToWire } from '../schemas/classifications.ts';
import { errorResponses, json } from '../schemas/errors.ts';
import {
  exampleModeration,
  type ModerationBody,
  moderationToWire,
  readModerationInputs,
} from '../schemas/moderations.ts';
import { asEnded, endOf, findTarget } from './generation.ts';
import { admit } from './metering.ts';

const NOT_CONFIGURED =
  'Moderation: not served by this server. Train a classifier whose labels are the categories of moderation, and name it in ANNEAL_MODERATION_MODEL.';

export function moderationRoutes(app: FastifyInstance, deps: Deps): void {
  app.post<{ Body: ModerationBody }>(
    '/v1/moderations',
    {
      schema: {
        operationId: 'createModeration',
        tags: ['Moderations'],
        summary: 'Moderate texts',
        description:
          'Uses the classifier in ANNEAL_MODERATION_MODEL, whose labels are the categories. A 404 with code `not_served` without one, or if it belongs to another project.',
        body: Type.Ref('CreateModerationRequest'),
        response: {
          200: json('The results.', Type.Ref('CreateModerationResponse'), exampleModeration),
          ...errorResponses(404, 429, 503),
        },
      },
    },
    async (request, reply) => {
      const name = deps.config.moderationModel;
      if (!name) throw new ApiError('not_served', NOT_CONFIGURED);
      const inputs = readModerationInputs(request.body);
      const { model } = await findTarget(deps, request.caller.projectId, name);
      const signal = endOf(app, reply);
      const meter = await admit(deps, request, reply, {
        kind: 'moderations',
        model: name,
        estimateTokens: () => estimateTokens(inputs, 0),
      });
      const texts = inputs.map(input => ({ input }));
      const answer = await deps.generation.classify(model, texts, signal).catch(error => {
        throw asEnded(error, signal);
      });
      meter.note({ inputTokens: answer.promptTokens });
      const results = answer.outputs.map((each, index) =>
        moderationToWire(classificationToWire(answer, each, index, undefined)),
      );
      return { id: newId('moderation'), model: name, results };
    },
  );
}
