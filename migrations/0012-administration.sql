-- Whom keys belong to and what they may, and a record of administrative acts.
alter table projects add column archived_at timestamptz;  -- afterwards none of its keys works

create table service_accounts (
  id text primary key,                       -- svc_acct_...
  project_id text not null references projects,
  name text not null,
  role text not null check (role in ('owner', 'member', 'none')),
  created_at timestamptz not null default now(),
  deleted_at timestamptz                     -- its keys are revoked with it
);
create index service_accounts_by_project on service_accounts (project_id, created_at, id) where deleted_at is null;

alter table api_keys
  add column service_account_id text references service_accounts,  -- null: made at the command line
  add column scopes text[] not null default '{}',                  -- empty: everything
  add column expires_at timestamptz;
create index api_keys_by_project on api_keys (project_id, created_at, id) where revoked_at is null;

create table admin_keys (
  id text primary key,                       -- key_...
  name text not null,
  hash bytea not null unique,                -- sha256 of the key; the key itself is never stored
  hint text not null,                        -- sk-admin-...last four
  created_at timestamptz not null default now(),
  last_used_at timestamptz,
  expires_at timestamptz,
  revoked_at timestamptz
);

create table audit_logs (
  id text primary key,                       -- audit_log-...
  sequence bigint generated always as identity unique,
  effective_at timestamptz not null default now(),
  type text not null,                        -- api_key.created, project.archived, ...
  actor_type text not null check (actor_type in ('api_key', 'session')),  -- session: the command line, or nobody known
  actor_id text,                             -- of the key
  address text,                              -- where the request came from
  project_id text,
  resource_id text,                          -- what was acted on
  details jsonb not null                     -- what stands on the wire under the type's name
);
create index audit_logs_by_resource on audit_logs (resource_id, sequence desc);
create index audit_logs_by_project on audit_logs (project_id, sequence desc);

create function refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '% is only ever added to', tg_table_name;
end $$;
create trigger audit_logs_are_kept before update or delete or truncate on audit_logs
  for each statement execute function refuse_change();
