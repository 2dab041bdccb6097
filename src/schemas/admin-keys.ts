// API schemas of admin keys.
import { type Static, Type } from 'typebox';
import type { AdminKey } from '../store/admin-keys.ts';
import { Choice } from './choice.ts';
import { After, Limit, ListOf, unixSeconds, type WithDefaults } from './lists.ts';
import { ExpiresInSeconds, operator } from './project-keys.ts';

const nullableInteger = Type.Union([Type.Integer(), Type.Null()]);

const key = {
  id: Type.String(),
  object: Type.Literal('organization.admin_api_key'),
  name: Type.String(),
  redacted_value: Type.String({ description: 'First and last characters of the key.' }),
  created_at: Type.Integer(),
  last_used_at: Type.Union([Type.Integer(), Type.Null()], { description: 'Unix seconds, to the minute.' }),
  expires_at: nullableInteger,
  owner: Type.Object({
    type: Type.Literal('user'),
    object: Type.Literal('organization.user'),
    id: Type.String(),
    name: Type.String(),
    created_at: Type.Integer(),
    role: Type.Literal('owner'),
  }),
};

export const AdminApiKey = Type.Object(key, {
  $id: 'AdminApiKey',
  description: 'A key for administering all projects.',
});

export const AdminApiKeyCreateResponse = Type.Object(
  { ...key, value: Type.String({ description: 'The key. It is shown only in this answer.' }) },
  { $id: 'AdminApiKeyCreateResponse', description: 'A new admin key.' },
);

export const CreateAdminApiKeyRequest = Type.Object(
  {
    name: Type.String({ minLength: 1, maxLength: 200, description: 'Description of the key.' }),
    expires_in_seconds: Type.Optional(ExpiresInSeconds),
  },
  { $id: 'CreateAdminApiKeyRequest', additionalProperties: false, examples: [{ name: 'billing report' }] },
);
export type CreateAdminApiKeyBody = Static<typeof CreateAdminApiKeyRequest>;

export const ListAdminApiKeysQuery = Type.Object({
  after: After,
  limit: Limit(20, 100),
  order: Type.Optional(Choice(['asc', 'desc'], { default: 'asc', description: 'Order by creation time.' })),
});
export type ListAdminApiKeysQuery = WithDefaults<Static<typeof ListAdminApiKeysQuery>, 'limit' | 'order'>;

export const AdminApiKeyListResponse = ListOf(
  'AdminApiKeyListResponse',
  Type.Ref('AdminApiKey'),
  'A page of admin keys.',
);

export const AdminApiKeyDeleteResponse = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('organization.admin_api_key.deleted'),
    deleted: Type.Boolean(),
  },
  { $id: 'AdminApiKeyDeleteResponse', description: 'The key is deleted and no longer works.' },
);

export const AdminKeyId = Type.Object({
  key_id: Type.String({ description: 'Id of an admin key.', examples: ['key_Abc123Abc123Abc123Abc123'] }),
});
export type AdminKeyId = Static<typeof AdminKeyId>;

export function adminKeyToWire(row: AdminKey) {
  const { id, name } = operator;
  const created_at = unixSeconds(row.createdAt);
  return {
    id: row.id,
    object: 'organization.admin_api_key' as const,
    name: row.name,
    redacted_value: row.hint,
    created_at,
    last_used_at: row.lastUsedAt && unixSeconds(row.lastUsedAt),
    expires_at: row.expiresAt && unixSeconds(row.expiresAt),
    owner: { type: 'user', object: 'organization.user', id, name, created_at, role: 'owner' } as const,
  };
}

export const exampleAdminKey = {
  id: 'key_Abc123Abc123Abc123Abc123',
  object: 'organization.admin_api_key',
  name: 'billing report',
  redacted_value: 'sk-admin-...4abc',
  created_at: 1_780_000_000,
  last_used_at: null,
  expires_at: null,
  owner: {
    type: 'user',
    object: 'organization.user',
    id: operator.id,
    name: operator.name,
    created_at: 1_780_000_000,
    role: 'owner',
  },
};
