-- A batch whose project has reached a limit waits, and others get their turn meanwhile; and whose key made a job.
alter table batches add column waits_until timestamptz;  -- null: it does not wait
alter table jobs add column api_key_id text;             -- null: made before this was noted, or brought from elsewhere
