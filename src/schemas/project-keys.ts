// API schemas of project API keys. The secret is only returned on creation (service-accounts.ts).
import { type Static, Type } from 'typebox';
import type { ApiKey } from '../store/api-keys.ts';
import { Choice } from './choice.ts';
import { After, Limit, ListOf, unixSeconds, type WithDefaults } from './lists.ts';
import { ProjectId } from './projects.ts';
import { Scopes } from './scopes.ts';

const nullableInteger = Type.Union([Type.Integer(), Type.Null()]);
const TEN_YEARS_SECONDS = 10 * 365 * 86400;

export const ExpiresInSeconds = Type.Integer({
  minimum: 1,
  maximum: TEN_YEARS_SECONDS,
  description: 'Seconds from now until the key expires.',
});

const owner = {
  id: Type.String(),
  name: Type.String(),
  role: Type.String(),
  created_at: Type.Integer(),
};

export const ProjectApiKey = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('organization.project.api_key'),
    name: Type.String(),
    redacted_value: Type.String({ description: 'First and last characters of the key.' }),
    created_at: Type.Integer(),
    last_used_at: Type.Union([Type.Integer(), Type.Null()], { description: 'Unix seconds, to the minute.' }),
    expires_at: nullableInteger,
    scopes: Type.Array(Type.String(), {
      description: 'Scopes of the key; empty: everything in its project.',
    }),
    owner: Type.Object({
      type: Choice(['user', 'service_account'], { description: '`user`: created on the command line.' }),
      user: Type.Optional(Type.Object({ ...owner, email: Type.String() })),
      service_account: Type.Optional(Type.Object(owner)),
    }),
    owner_project_access: Choice(['active', 'inactive']),
  },
  { $id: 'ProjectApiKey', description: 'A key of a project.' },
);

export const UpdateProjectApiKeyRequest = Type.Object(
  { scopes: Type.Optional(Scopes), expires_in_seconds: Type.Optional(ExpiresInSeconds) },
  {
    $id: 'UpdateProjectApiKeyRequest',
    additionalProperties: false,
    examples: [{ scopes: ['api.model.request'] }],
  },
);
export type UpdateProjectApiKeyBody = Static<typeof UpdateProjectApiKeyRequest>;

export const ListProjectApiKeysQuery = Type.Object({
  after: After,
  limit: Limit(20, 100),
  owner_project_access: Type.Optional(
    Choice(['active', 'inactive', 'any'], {
      description: 'All owners are active here: `inactive` finds none.',
    }),
  ),
});
export type ListProjectApiKeysQuery = WithDefaults<Static<typeof ListProjectApiKeysQuery>, 'limit'>;

export const ProjectApiKeyListResponse = ListOf(
  'ProjectApiKeyListResponse',
  Type.Ref('ProjectApiKey'),
  'A page of keys, oldest first.',
);

export const ProjectApiKeyDeleteResponse = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('organization.project.api_key.deleted'),
    deleted: Type.Boolean(),
  },
  { $id: 'ProjectApiKeyDeleteResponse', description: 'The key is deleted and no longer works.' },
);

export const ProjectApiKeyId = Type.Object({
  ...ProjectId.properties,
  api_key_id: Type.String({ description: 'Id of a key.', examples: ['key_Abc123Abc123Abc123Abc123'] }),
});
export type ProjectApiKeyId = Static<typeof ProjectApiKeyId>;

/** The operator with access to the command line, who is the only user. */
export const operator = { id: 'user-operator', name: 'operator', email: 'operator@localhost', role: 'owner' };

export function projectApiKeyToWire(key: ApiKey) {
  return {
    id: key.id,
    object: 'organization.project.api_key' as const,
    name: key.name,
    redacted_value: key.hint,
    created_at: unixSeconds(key.createdAt),
    last_used_at: key.lastUsedAt && unixSeconds(key.lastUsedAt),
    expires_at: key.expiresAt && unixSeconds(key.expiresAt),
    scopes: key.scopes,
    owner: ownerToWire(key),
    owner_project_access: 'active' as const,
  };
}

function ownerToWire({ serviceAccount, createdAt }: ApiKey) {
  if (!serviceAccount)
    return { type: 'user' as const, user: { ...operator, created_at: unixSeconds(createdAt) } };
  const { id, name, role } = serviceAccount;
  const account = { id, name, role, created_at: unixSeconds(serviceAccount.createdAt) };
  return { type: 'service_account' as const, service_account: account };
}

export const exampleProjectApiKey = {
  id: 'key_Abc123Abc123Abc123Abc123',
  object: 'organization.project.api_key',
  name: 'ticket router',
  redacted_value: 'sk-svcacct-...4abc',
  created_at: 1_780_000_000,
  last_used_at: 1_780_003_600,
  expires_at: null,
  scopes: ['api.model.request'],
  owner: {
    type: 'service_account',
    service_account: {
      id: 'svc_acct_Abc123Abc123Abc123Abc123',
      name: 'ticket router',
      role: 'member',
      created_at: 1_780_000_000,
    },
  },
  owner_project_access: 'active',
};
