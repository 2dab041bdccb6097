-- A model as one file: asked for once for a model and a format, made by a worker.
create table model_exports (
  id text primary key,                       -- export_...
  project_id text not null references projects,
  model text not null,
  format text not null check (format in ('adapter', 'merged', 'gguf')),
  status text not null default 'queued' check (status in ('queued', 'in_progress', 'succeeded', 'failed')),
  file_id text,                              -- the result, a file of purpose fine-tune-results
  largest_difference double precision,       -- of a log-probability, between the served and the exported model
  error jsonb,                               -- {code, message}
  created_at timestamptz not null default now(),
  started_at timestamptz,
  finished_at timestamptz,
  -- the lease, as on jobs
  runner_id text,
  lease_until timestamptz,
  attempt int not null default 0,
  crashes int not null default 0,            -- since it was asked for
  unique (project_id, model, format)
);
create index model_exports_leased on model_exports (lease_until) where status in ('queued', 'in_progress');
