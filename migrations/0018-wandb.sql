-- Jobs that are followed on a Weights & Biases server: how far each run there is. What was asked for stands in jobs.integrations.
create table wandb_runs (
  job_id text not null references jobs on delete cascade,
  position int not null,                     -- in jobs.integrations, from 0
  entity text,                               -- as the server named them; null until the run is there
  project text,
  sent_lines int not null default 0,         -- of the run's history
  sent_step int not null default 0,          -- the last of the steps in them
  failures int not null default 0,           -- since it worked last
  attempt int not null default 0,            -- grows each time that somebody sends
  next_attempt_at timestamptz default now(), -- null once all is sent, or given up
  primary key (job_id, position)
);
create index wandb_runs_due on wandb_runs (next_attempt_at) where next_attempt_at is not null;
