-- Where deleted rows stood in their lists, for a day: a client that deletes what it lists asks for the page after a row that is gone.
create table deleted_places (
  id text primary key,                       -- of the row
  list text not null,                        -- whose list it was: a project, an evaluation, a model
  created_at timestamptz not null,
  updated_at timestamptz not null,           -- lists that are in the order of changes; created_at for others
  deleted_at timestamptz not null default now()
);
create index deleted_places_by_age on deleted_places (deleted_at);

-- Arguments: the columns that become `list` and `updated_at`.
create function keep_place() returns trigger language plpgsql as $$
declare
  list text;
  updated_at timestamptz;
begin
  execute format('select ($1).%I, ($1).%I', tg_argv[0], tg_argv[1]) into list, updated_at using old;
  insert into deleted_places (id, list, created_at, updated_at)
  values (old.id, list, old.created_at, updated_at) on conflict (id) do nothing;
  return null;
end $$;

create trigger files_keep_places after delete on files
  for each row execute function keep_place('project_id', 'created_at');
create trigger chat_completions_keep_places after delete on chat_completions
  for each row execute function keep_place('project_id', 'created_at');
create trigger responses_keep_places after delete on responses
  for each row execute function keep_place('project_id', 'created_at');
create trigger webhook_endpoints_keep_places after delete on webhook_endpoints
  for each row execute function keep_place('project_id', 'created_at');
create trigger evals_keep_places after delete on evals
  for each row execute function keep_place('project_id', 'updated_at');
create trigger eval_runs_keep_places after delete on eval_runs
  for each row execute function keep_place('eval_id', 'created_at');
create trigger model_permissions_keep_places after delete on model_permissions
  for each row execute function keep_place('model_id', 'created_at');
