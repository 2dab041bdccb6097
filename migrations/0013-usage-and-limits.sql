-- What requests took, minute by minute, and what a project may take.
create table usage (
  minute timestamptz not null,
  kind text not null check (kind in ('completions', 'embeddings', 'classifications', 'moderations')),
  project_id text not null references projects,
  api_key_id text not null,
  model text not null,                       -- as the request named it
  batch boolean not null,
  requests bigint not null,
  input_tokens bigint not null,              -- the cached ones too
  cached_tokens bigint not null,
  output_tokens bigint not null,
  primary key (minute, kind, project_id, api_key_id, model, batch)
);
-- what training took stands in the jobs
create index jobs_trained on jobs (finished_at) where trained_tokens is not null;

create table rate_limits (
  project_id text not null references projects,
  model text not null,                       -- a base model, for it and all that was trained from it; 'all': for all together
  requests_per_minute int check (requests_per_minute >= 0),  -- of each of the three null: any number
  tokens_per_minute int check (tokens_per_minute >= 0),
  requests_per_day int check (requests_per_day >= 0),
  -- token buckets: what was used of each limit at `used_at`; it drains evenly, over the minute or the day
  used_requests float8 not null default 0,
  used_tokens float8 not null default 0,
  used_day float8 not null default 0,
  used_at timestamptz not null default now(),
  primary key (project_id, model)
) with (fillfactor = 50);                    -- rewritten by every request under a limit

alter table projects
  add column max_active_jobs int check (max_active_jobs >= 0),     -- of each of the two null: any number
  add column max_stored_bytes bigint check (max_stored_bytes >= 0);
create index jobs_active on jobs (project_id) where status in ('validating_files', 'queued', 'running', 'paused');
create index uploads_pending on uploads (project_id) where status = 'pending';
create index jobs_by_status on jobs (status);
