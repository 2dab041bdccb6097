-- The whole state of the service. Times are timestamptz here and unix seconds on the wire.

create table projects (
  id text primary key,                       -- proj_...
  name text not null,
  organization_id text not null,             -- org-...
  created_at timestamptz not null default now()
);

create table api_keys (
  id text primary key,                       -- key_...
  project_id text not null references projects,
  name text not null,
  hash bytea not null unique,                -- sha256 of the key; the key itself is never stored
  hint text not null,                        -- sk-...last four
  created_at timestamptz not null default now(),
  last_used_at timestamptz,
  revoked_at timestamptz
);

create table files (
  id text primary key,                       -- file-...
  project_id text not null references projects,
  purpose text not null,
  filename text not null,
  bytes bigint not null,
  sha256 text not null,
  blob_key text not null,
  status text not null check (status in ('uploaded', 'processed', 'error')),
  status_details text,
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  deleted_at timestamptz                     -- set first; the object is removed afterwards, then the row
);
create index files_by_project on files (project_id, created_at desc, id desc) where deleted_at is null;
create index files_expiring on files (expires_at) where expires_at is not null and deleted_at is null;

create table models (
  id text primary key,                       -- anneal-tiny, ft:anneal-tiny:org:suffix:8chars[:ckpt-step-n]
  project_id text references projects,       -- null: a base model, seen by every project
  kind text not null check (kind in ('base', 'adapter', 'full')),
  architecture text not null,
  base_model text references models,         -- null for a base model
  job_id text,
  step int,
  owned_by text not null,
  files jsonb not null,                      -- [{path, key, bytes, sha256}]
  created_at timestamptz not null default now(),
  deleted_at timestamptz
);
create index models_by_project on models (project_id, created_at) where deleted_at is null;

create table jobs (
  id text primary key,                       -- ftjob-...
  project_id text not null references projects,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  finished_at timestamptz,
  status text not null check (status in
    ('validating_files', 'queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled')),
  model text not null references models,     -- as the request named it: a base or a fine-tuned model
  training_file text not null,
  validation_file text,
  suffix text,
  seed int not null,
  metadata jsonb,
  integrations jsonb,
  method jsonb not null,                     -- as requested, {type, supervised: {hyperparameters}}
  hyperparameters jsonb,                     -- resolved; null until the trainer has resolved them
  fine_tuned_model text,
  trained_tokens bigint,
  result_files text[] not null default '{}',
  error jsonb,                               -- {code, message, param}
  estimated_finish timestamptz,
  total_steps int,
  layout jsonb,                              -- how the run was laid out; a resumed run is laid out alike
  manifest jsonb,
  -- the lease: only the runner whose attempt equals `attempt` may write to a running job
  runner_id text,
  lease_until timestamptz,
  attempt int not null default 0,
  -- what went wrong since the last checkpoint; a checkpoint sets both back, too many fail the job
  crashes int not null default 0,            -- the trainer died
  lost_leases int not null default 0         -- the worker was not heard of again
);
create index jobs_by_project on jobs (project_id, created_at desc, id desc);
create index jobs_by_metadata on jobs using gin (metadata jsonb_path_ops);
create index jobs_leased on jobs (lease_until) where status in ('validating_files', 'queued', 'running', 'paused');

create table job_events (
  id text primary key,                       -- ftevent-...
  job_id text not null references jobs on delete cascade,
  sequence bigint generated always as identity,
  created_at timestamptz not null default now(),
  level text not null check (level in ('info', 'warn', 'error')),
  type text not null check (type in ('message', 'metrics')),
  message text not null,
  data jsonb,
  once text,                                 -- a name for what happened; a run that is repeated says it once
  unique (job_id, once)
);
create index job_events_by_job on job_events (job_id, sequence desc);

create table job_metrics (
  job_id text not null references jobs on delete cascade,
  step int not null,
  metrics jsonb not null,                    -- StepMetrics and learning_rate, gradient_norm, seconds
  primary key (job_id, step)
);

create table job_checkpoints (
  id text primary key,                       -- ftckpt_...
  job_id text not null references jobs on delete cascade,
  step int not null,
  kind text not null check (kind in ('resume', 'model')),
  model text,                                -- ft:...:ckpt-step-n for kind 'model'
  metrics jsonb not null,
  files jsonb not null,                      -- [{path, key, bytes, sha256}]
  created_at timestamptz not null default now(),
  unique (job_id, kind, step)
);
