-- Where events are sent, and what became of sending each. A delivery is written in the transaction that makes what it tells of.
create table webhook_endpoints (
  id text primary key,                       -- we_...
  project_id text not null references projects,
  name text not null,
  url text not null,
  event_types text[] not null,
  secret text not null,                      -- whsec_...; it signs, so it must be readable
  old_secret text,                           -- signs, too, until:
  old_secret_until timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index webhook_endpoints_by_project on webhook_endpoints (project_id, created_at desc, id desc);

create table webhook_deliveries (
  id text primary key,                       -- wh_...: the receiver tells repetitions by it
  endpoint_id text not null references webhook_endpoints on delete cascade,
  event_id text not null,                    -- evt_..., the same at every endpoint
  event_type text not null,
  data jsonb not null,
  created_at timestamptz not null default now(),
  status text not null default 'pending' check (status in ('pending', 'delivered', 'failed')),
  attempts int not null default 0,
  next_attempt_at timestamptz default now(), -- null once nothing more is sent; while one is being sent, when it is given up
  delivered_at timestamptz,
  last_attempt_at timestamptz,
  last_status_code int,                      -- what the receiver answered at last; null when it did not
  last_error text
);
create index webhook_deliveries_due on webhook_deliveries (next_attempt_at) where status = 'pending';
create index webhook_deliveries_by_endpoint on webhook_deliveries (endpoint_id, created_at desc, id desc);
create index webhook_deliveries_by_age on webhook_deliveries (created_at);
