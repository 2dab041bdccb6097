-- Workers that are alive, and how fast runs were on machines like theirs: for what a dry run says.
create table runners (
  id text primary key,                       -- runner_id on jobs
  host text not null,
  hardware text not null,                    -- the processor with its cores, or the accelerator
  engine text not null,
  device text not null,
  threads int not null,
  memory_bytes bigint not null,              -- of the machine, or of its control group
  free_bytes bigint not null,                -- of that, when it last trained nothing
  memory_budget_bytes bigint,                -- what training may use; null: what is free
  flops_per_second float8,                   -- of matrix products, measured at its start; null: it was not
  started_at timestamptz not null,
  seen_at timestamptz not null default now(),
  alive_until timestamptz not null           -- it says so again before
);

create table run_speeds (
  hardware text not null,
  engine text not null,
  device text not null,
  threads int not null,
  model text not null,                       -- the base model
  adapter text not null,
  quantization text not null,
  flops float8 not null,                     -- of all steps so far ...
  seconds float8 not null,                   -- ... and what they took
  primary key (hardware, engine, device, threads, model, adapter, quantization)
);
