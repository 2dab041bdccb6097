-- Chat completions that their requests asked to be kept, with the messages they answer.
create table chat_completions (
  id text primary key,                       -- chatcmpl-...
  project_id text not null references projects,
  created_at timestamptz not null default now(),
  model text not null,                       -- as the request named it
  metadata jsonb,
  messages jsonb not null,                   -- of the request, in order
  completion jsonb not null                  -- as it was answered, with the request's parameters
);
create index chat_completions_by_project on chat_completions (project_id, created_at, id);
create index chat_completions_by_metadata on chat_completions using gin (metadata jsonb_path_ops);
