// API schemas of service accounts of a project and of the keys created with them.
import { type Static, Type } from 'typebox';
import type { ApiKey } from '../store/api-keys.ts';
import type { ServiceAccount } from '../store/service-accounts.ts';
import { Choice } from './choice.ts';
import { After, Limit, ListOf, unixSeconds, type WithDefaults } from './lists.ts';
import { ExpiresInSeconds } from './project-keys.ts';
import { ProjectId } from './projects.ts';
import { Scopes } from './scopes.ts';

const roles = ['owner', 'member', 'none'] as const;

const account = {
  id: Type.String(),
  object: Type.Literal('organization.project.service_account'),
  name: Type.String(),
  role: Choice(roles, { description: "Stored and shown only; permissions come from a key's scopes." }),
  created_at: Type.Integer(),
};

export const ProjectServiceAccount = Type.Object(account, {
  $id: 'ProjectServiceAccount',
  description: 'Owner of the keys of a program.',
});

export const ProjectServiceAccountApiKey = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('organization.project.service_account.api_key'),
    name: Type.String(),
    value: Type.String({ description: 'The key. It is shown only in this answer.' }),
    created_at: Type.Integer(),
    expires_at: Type.Union([Type.Integer(), Type.Null()]),
  },
  { $id: 'ProjectServiceAccountApiKey', description: 'A new key of a service account.' },
);

export const ProjectServiceAccountCreateResponse = Type.Object(
  { ...account, api_key: Type.Union([Type.Ref('ProjectServiceAccountApiKey'), Type.Null()]) },
  { $id: 'ProjectServiceAccountCreateResponse', description: 'A new service account, with its first key.' },
);

const name = Type.String({ minLength: 1, maxLength: 200, description: 'Display name.' });

export const CreateProjectServiceAccountRequest = Type.Object(
  {
    name,
    create_service_account_only: Type.Optional(
      Type.Union([Type.Boolean(), Type.Null()], {
        description: 'Create the account without a key and with the role `none`.',
      }),
    ),
    expires_in_seconds: Type.Optional(Type.Union([ExpiresInSeconds, Type.Null()])),
  },
  {
    $id: 'CreateProjectServiceAccountRequest',
    additionalProperties: false,
    examples: [{ name: 'ticket router' }],
  },
);
export type CreateServiceAccountBody = Static<typeof CreateProjectServiceAccountRequest>;

export const UpdateProjectServiceAccountRequest = Type.Object(
  { name: Type.Optional(name), role: Type.Optional(Choice(['member', 'owner'])) },
  {
    $id: 'UpdateProjectServiceAccountRequest',
    additionalProperties: false,
    examples: [{ name: 'mail router' }],
  },
);
export type UpdateServiceAccountBody = Static<typeof UpdateProjectServiceAccountRequest>;

export const CreateServiceAccountApiKeyRequest = Type.Object(
  {
    name: Type.Optional(name),
    scopes: Type.Optional(Scopes),
    expires_in_seconds: Type.Optional(Type.Union([ExpiresInSeconds, Type.Null()])),
  },
  {
    $id: 'CreateServiceAccountApiKeyRequest',
    additionalProperties: false,
    examples: [{ name: 'answers only', scopes: ['api.model.request'] }],
  },
);
export type CreateServiceAccountApiKeyBody = Static<typeof CreateServiceAccountApiKeyRequest>;

export const ListProjectServiceAccountsQuery = Type.Object({ after: After, limit: Limit(20, 100) });
export type ListProjectServiceAccountsQuery = WithDefaults<
  Static<typeof ListProjectServiceAccountsQuery>,
  'limit'
>;

export const ProjectServiceAccountListResponse = ListOf(
  'ProjectServiceAccountListResponse',
  Type.Ref('ProjectServiceAccount'),
  'A page of service accounts, oldest first.',
);

export const ProjectServiceAccountDeleteResponse = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('organization.project.service_account.deleted'),
    deleted: Type.Boolean(),
  },
  {
    $id: 'ProjectServiceAccountDeleteResponse',
    description: 'The service account and its keys are deleted.',
  },
);

export const ServiceAccountId = Type.Object({
  ...ProjectId.properties,
  service_account_id: Type.String({
    description: 'Id of a service account.',
    examples: ['svc_acct_Abc123Abc123Abc123Abc123'],
  }),
});
export type ServiceAccountId = Static<typeof ServiceAccountId>;

export function serviceAccountToWire({ id, name, role, createdAt }: ServiceAccount) {
  const object = 'organization.project.service_account' as const;
  return { id, object, name, role, created_at: unixSeconds(createdAt) };
}

export function newKeyToWire({ id, name, createdAt, expiresAt }: ApiKey, value: string) {
  return {
    id,
    object: 'organization.project.service_account.api_key' as const,
    name,
    value,
    created_at: unixSeconds(createdAt),
    expires_at: expiresAt && unixSeconds(expiresAt),
  };
}

export const exampleServiceAccount = {
  id: 'svc_acct_Abc123Abc123Abc123Abc123',
  object: 'organization.project.service_account',
  name: 'ticket router',
  role: 'member',
  created_at: 1_780_000_000,
};

export const exampleNewKey = {
  id: 'key_Abc123Abc123Abc123Abc123',
  object: 'organization.project.service_account.api_key',
  name: 'ticket router',
  value: 'sk-svcacct-...',
  created_at: 1_780_000_000,
  expires_at: null,
};
