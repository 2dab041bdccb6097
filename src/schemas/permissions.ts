// API schemas of permissions to use another project's fine-tuned model.
import { type Static, Type } from 'typebox';
import type { Permission } from '../store/permissions.ts';
import { Choice } from './choice.ts';
import { After, Limit, ListOf, unixSeconds, type WithDefaults } from './lists.ts';

export const FineTuningCheckpointPermission = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('checkpoint.permission'),
    created_at: Type.Integer({ description: 'Unix seconds.' }),
    project_id: Type.String({ description: 'Project that may use the model.' }),
  },
  {
    $id: 'FineTuningCheckpointPermission',
    description: "Permission of a project to use another project's model.",
  },
);

export const ListFineTuningCheckpointPermissionResponse = ListOf(
  'ListFineTuningCheckpointPermissionResponse',
  Type.Ref('FineTuningCheckpointPermission'),
  'A page of permissions.',
);

export const CreateFineTuningCheckpointPermissionRequest = Type.Object(
  {
    project_ids: Type.Array(Type.String({ minLength: 1 }), {
      minItems: 1,
      maxItems: 1000,
      uniqueItems: true,
      description: 'Projects that may use the model.',
    }),
  },
  {
    $id: 'CreateFineTuningCheckpointPermissionRequest',
    additionalProperties: false,
    examples: [{ project_ids: ['proj_Abc123Abc123Abc123Abc123'] }],
    description: 'Projects to share with.',
  },
);
export type CreatePermissionsBody = Static<typeof CreateFineTuningCheckpointPermissionRequest>;

export const DeleteFineTuningCheckpointPermissionResponse = Type.Object(
  { id: Type.String(), object: Type.Literal('checkpoint.permission'), deleted: Type.Boolean() },
  { $id: 'DeleteFineTuningCheckpointPermissionResponse', description: 'The deleted object.' },
);

export const CheckpointName = Type.Object({
  fine_tuned_model_checkpoint: Type.String({
    description: 'Name of a fine-tuned model or of a checkpoint.',
    examples: ['ft:anneal-tiny:personal:tickets:a1B2c3D4'],
  }),
});
export type CheckpointName = Static<typeof CheckpointName>;

export const PermissionId = Type.Object({
  ...CheckpointName.properties,
  permission_id: Type.String({ description: 'Id of the permission.', examples: ['cp_abc123'] }),
});
export type PermissionId = Static<typeof PermissionId>;

export const ListPermissionsQuery = Type.Object({
  project_id: Type.Optional(Type.String({ description: 'Only this project.' })),
  after: After,
  limit: Limit(10, 100),
  order: Type.Optional(
    Choice(['ascending', 'descending'], { default: 'descending', description: 'Order by creation time.' }),
  ),
});
export type ListPermissionsQuery = WithDefaults<Static<typeof ListPermissionsQuery>, 'limit' | 'order'>;

export function permissionToWire({ id, createdAt, projectId }: Permission) {
  return {
    id,
    object: 'checkpoint.permission' as const,
    created_at: unixSeconds(createdAt),
    project_id: projectId,
  };
}

export const examplePermission = {
  id: 'cp_Abc123Abc123Abc123Abc123',
  object: 'checkpoint.permission',
  created_at: 1_780_000_000,
  project_id: 'proj_Abc123Abc123Abc123Abc123',
};
