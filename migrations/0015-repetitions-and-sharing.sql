-- An Idempotency-Key on every POST: also on those whose answer is not made in one transaction. Such a key is held while the
-- answer is being made, and the answer is kept sealed with the caller's own API key, because it may hold what nobody else may read.
alter table idempotency_keys drop constraint idempotency_keys_project_id_fkey;
alter table idempotency_keys rename column project_id to owner;  -- a project, or 'organization' for admin keys
alter table idempotency_keys
  add column held_by text,                   -- who is making the answer; null once it is there
  add column held_until timestamptz,         -- afterwards, whoever held it is gone
  add column status_code int not null default 200,
  add column content_type text,              -- of a sealed answer
  add column sealed bytea;                   -- the answer, where `answer` is null

-- Fine-tuned models that other projects than their own may use.
create table model_permissions (
  id text primary key,                       -- cp_...
  model_id text not null references models,
  project_id text not null references projects,
  created_at timestamptz not null default now(),
  unique (model_id, project_id)
);
create index model_permissions_by_model on model_permissions (model_id, created_at desc, id desc);
create index model_permissions_by_project on model_permissions (project_id);
