-- What was answered to requests with an Idempotency-Key, so that the same request again makes nothing and gets the same answer.
create table idempotency_keys (
  project_id text not null references projects,
  key text not null,
  fingerprint text not null,                 -- sha256 of method, path and what the body says
  answer json,                               -- null only within the transaction that makes what it tells of
  expires_at timestamptz not null,
  primary key (project_id, key)
);
create index idempotency_keys_by_expiry on idempotency_keys (expires_at);
