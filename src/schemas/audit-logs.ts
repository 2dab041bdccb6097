// API schemas of audit log entries. The details of an entry are in a property named like its type.
import { type Static, Type } from 'typebox';
import { type AuditLog as AuditRow, auditTypes } from '../store/audit-logs.ts';
import { Choice } from './choice.ts';
import { After, Limit, ListOf, unixSeconds, type WithDefaults } from './lists.ts';
import { operator } from './project-keys.ts';
import { UnixSeconds } from './times.ts';

const details = Type.Object({}, { additionalProperties: true });
const user = Type.Object({ id: Type.String(), email: Type.String() });

export const AuditLog = Type.Object(
  {
    id: Type.String(),
    type: Choice(auditTypes),
    effective_at: Type.Integer(),
    project: Type.Optional(
      Type.Object({ id: Type.String(), name: Type.String() }, { description: 'Project of the change.' }),
    ),
    actor: Type.Object({
      type: Choice(['api_key', 'session'], {
        description: '`session`: the command line, or an unknown caller of a failed login.',
      }),
      api_key: Type.Optional(
        Type.Object({
          id: Type.String(),
          type: Choice(['user', 'service_account']),
          user: Type.Optional(user),
          service_account: Type.Optional(Type.Object({ id: Type.String() })),
        }),
      ),
      session: Type.Optional(
        Type.Object({ user: Type.Optional(user), ip_address: Type.Optional(Type.String()) }),
      ),
    }),
    ...Object.fromEntries(auditTypes.map(type => [type, Type.Optional(details)])),
  },
  { $id: 'AuditLog', description: 'An entry of the audit log.' },
);

export const ListAuditLogsResponse = ListOf(
  'ListAuditLogsResponse',
  Type.Ref('AuditLog'),
  'A page of the audit log, newest first.',
);

const seconds = Type.Optional(UnixSeconds('Unix seconds.'));
const texts = (description: string) => Type.Optional(Type.Array(Type.String(), { description }));

export const ListAuditLogsQuery = Type.Object({
  after: After,
  before: Type.Optional(
    Type.String({ description: 'Id of an entry; the page ends before it.', maxLength: 300 }),
  ),
  limit: Limit(20, 100),
  event_types: texts('Only entries of these types.'),
  project_ids: texts('Only entries of these projects.'),
  actor_ids: texts('Only actions of these keys or service accounts.'),
  actor_emails: texts('Only actions of these users; the operator is the only user.'),
  resource_ids: texts('Only changes to these objects.'),
  effective_at: Type.Optional(
    Type.Object(
      { gt: seconds, gte: seconds, lt: seconds, lte: seconds },
      { description: 'Only entries in this time range.', additionalProperties: false },
    ),
  ),
  tenant_only: Type.Optional(Type.Boolean({ description: 'Only entries of tenants; there are none.' })),
});
export type ListAuditLogsQuery = WithDefaults<Static<typeof ListAuditLogsQuery>, 'limit'>;

const operatorUser = { id: operator.id, email: operator.email };

export function auditLogToWire(entry: AuditRow) {
  const { projectId, projectName } = entry;
  return {
    id: entry.id,
    type: entry.type,
    effective_at: unixSeconds(entry.effectiveAt),
    ...(projectId ? { project: { id: projectId, name: projectName ?? '' } } : {}),
    actor: actorToWire(entry),
    [entry.type]: entry.details,
  };
}

function actorToWire({ type, actor, serviceAccountId }: AuditRow) {
  if (actor.type === 'api_key') {
    const owner = serviceAccountId
      ? { type: 'service_account' as const, service_account: { id: serviceAccountId } }
      : { type: 'user' as const, user: operatorUser };
    return { type: 'api_key' as const, api_key: { id: actor.id ?? '', ...owner } };
  }
  const session = {
    ...(type === 'login.failed' ? {} : { user: operatorUser }),
    ...(actor.address ? { ip_address: actor.address } : {}),
  };
  return { type: 'session' as const, session };
}

export const exampleAuditLog = {
  id: 'audit_log-Abc123Abc123Abc123Abc123',
  type: 'project.created',
  effective_at: 1_780_000_000,
  project: { id: 'proj_Abc123Abc123Abc123Abc123', name: 'Support' },
  actor: {
    type: 'api_key',
    api_key: { id: 'key_Abc123Abc123Abc123Abc123', type: 'user', user: operatorUser },
  },
  'project.created': { id: 'proj_Abc123Abc123Abc123Abc123', data: { name: 'Support', title: 'Support' } },
};
