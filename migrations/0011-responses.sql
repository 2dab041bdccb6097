-- Responses that are kept: what was asked, what came of it, and which one a next one goes on from. Texts of models are json, not
-- jsonb: they may hold U+0000, and nothing in them is looked for.
alter table chat_completions alter column messages type json, alter column completion type json;
create table responses (
  id text primary key,                       -- resp_...
  project_id text not null references projects,
  created_at timestamptz not null default now(),
  previous_id text,                          -- of the response that this one goes on from; it may be deleted since
  status text not null check (status in ('queued', 'in_progress', 'completed', 'failed', 'incomplete', 'cancelled')),
  background boolean not null,
  lease_until timestamptz,                   -- of a background response: its api is heard of until then
  input json not null,                       -- items of the request, with ids
  response json not null                     -- as it is answered
);
create index responses_by_project on responses (project_id, created_at desc, id desc);
