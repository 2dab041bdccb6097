// API schemas of models.
import { type Static, Type } from 'typebox';
import type { ModelRow } from '../store/models.ts';
import { unixSeconds } from './lists.ts';

export const Model = Type.Object(
  {
    id: Type.String({ description: 'Name to use as `model` in requests.' }),
    object: Type.Literal('model'),
    created: Type.Integer(),
    owned_by: Type.String(),
    available: Type.Optional(
      Type.Boolean({
        description: 'False: only the name was imported, without weights; requests are refused.',
      }),
    ),
  },
  { $id: 'Model', description: 'A base model, a fine-tuned model, or a checkpoint of one.' },
);

export const ListModelsResponse = Type.Object(
  { object: Type.Literal('list'), data: Type.Array(Type.Ref('Model')) },
  { $id: 'ListModelsResponse', description: 'All models available to the project.' },
);

export const DeleteModelResponse = Type.Object(
  { id: Type.String(), object: Type.Literal('model'), deleted: Type.Boolean() },
  { $id: 'DeleteModelResponse', description: 'The deleted object.' },
);

export const ModelId = Type.Object({
  model: Type.String({
    description: 'Name of the model.',
    examples: ['ft:anneal-tiny:personal:tickets:a1B2c3D4'],
  }),
});
export type ModelId = Static<typeof ModelId>;

export function modelToWire(model: ModelRow) {
  return {
    id: model.id,
    object: 'model' as const,
    created: unixSeconds(model.createdAt),
    owned_by: model.ownedBy,
    ...(model.kind === 'elsewhere' ? { available: false as const } : {}),
  };
}

export const exampleModel = {
  id: 'ft:anneal-tiny:personal:tickets:a1B2c3D4',
  object: 'model',
  created: 1_780_000_000,
  owned_by: 'personal',
};
