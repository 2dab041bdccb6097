-- Many requests in a file, answered by the workers when there is time.
create table batches (
  id text primary key,                       -- batch_...
  project_id text not null references projects,
  api_key_id text not null,                  -- who asked, for what is noted of usage
  endpoint text not null,                    -- /v1/chat/completions ...
  input_file_id text not null,
  completion_window text not null,
  metadata jsonb,
  output_expires_after_seconds int not null,
  status text not null default 'validating' check (status in
    ('validating', 'failed', 'in_progress', 'finalizing', 'completed', 'expired', 'cancelling', 'cancelled')),
  model text,                                -- of all its requests; null when they name several
  errors jsonb,                              -- [{code, message, param, line}] of a file that is wrong
  output_file_id text,
  error_file_id text,
  total int not null default 0,
  completed int not null default 0,
  failed int not null default 0,
  input_tokens bigint not null default 0,
  output_tokens bigint not null default 0,
  created_at timestamptz not null default now(),
  in_progress_at timestamptz,
  finalizing_at timestamptz,
  completed_at timestamptz,
  failed_at timestamptz,
  expired_at timestamptz,
  cancelling_at timestamptz,
  cancelled_at timestamptz,
  expires_at timestamptz not null,
  -- the lease: only the runner whose attempt equals `attempt` may write
  runner_id text,
  lease_until timestamptz,
  attempt int not null default 0,
  taken_at timestamptz                       -- runners give a batch back after a while, so that others get their turn
);
create index batches_by_project on batches (project_id, created_at desc, id desc);
create index batches_to_run on batches (taken_at nulls first, created_at)
  where status in ('validating', 'in_progress', 'finalizing', 'cancelling');

-- Its requests, from when the file was found to be right until the results are files.
create table batch_requests (
  batch_id text not null references batches on delete cascade,
  line int not null,
  id text not null,                          -- batch_req_...
  custom_id text not null,
  response json,                             -- {status_code, request_id, body}; null: not answered yet
  primary key (batch_id, line)
);
create index batch_requests_answered on batch_requests (batch_id, line) where response is not null;
