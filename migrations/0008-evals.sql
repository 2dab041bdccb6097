-- Evaluations: what is tested and by which criteria, runs over data, and what came out for each item.
create table evals (
  id text primary key,                       -- eval_...
  project_id text not null references projects,
  name text not null,
  data_source_config jsonb not null,         -- as requested
  testing_criteria jsonb not null,           -- graders; never changed, so that runs can be compared
  metadata jsonb,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index evals_by_project on evals (project_id, created_at, id);
create index evals_by_update on evals (project_id, updated_at, id);

create table eval_runs (
  id text primary key,                       -- evalrun_...
  eval_id text not null references evals on delete cascade,
  project_id text not null references projects,
  api_key_id text not null,                  -- whose key asked for it
  name text not null,
  status text not null default 'queued' check (status in ('queued', 'in_progress', 'completed', 'canceled', 'failed')),
  model text,                                -- that answers; null where answers are part of the data
  data_source jsonb not null,                -- as requested
  metadata jsonb,
  error jsonb,                               -- {code, message}
  created_at timestamptz not null default now(),
  started_at timestamptz,
  finished_at timestamptz,
  -- sums over its items, written with each of them
  passed int not null default 0,
  failed int not null default 0,
  errored int not null default 0,
  criteria_results jsonb not null,           -- [{testing_criteria, passed, failed}], in the order of the criteria
  model_usage jsonb not null default '[]',   -- [{model_name, invocation_count, prompt_tokens, ...}]
  -- the lease, as on jobs
  runner_id text,
  lease_until timestamptz,
  attempt int not null default 0,
  crashes int not null default 0,            -- runs that broke off, or whose worker was lost, without an item between them
  unique (id, eval_id)
);
create index eval_runs_by_eval on eval_runs (eval_id, created_at, id);
create index eval_runs_leased on eval_runs (lease_until) where status in ('queued', 'in_progress');

create table eval_output_items (
  id text primary key,                       -- outputitem_...
  run_id text not null references eval_runs on delete cascade,
  item_index int not null,                   -- of the data source, from 0 on; an item is graded once
  created_at timestamptz not null default now(),
  status text not null check (status in ('pass', 'fail', 'error')),
  item jsonb not null,
  results jsonb not null,                    -- [{name, type, score, passed, ...}], in the order of the criteria
  sample jsonb not null,                     -- as on the wire
  unique (run_id, item_index)
);
