-- What the workers look for every few seconds must not cost a scan over all jobs that ever were.
create index jobs_to_clean on jobs (lease_until) where status in ('succeeded', 'failed', 'cancelled') and lease_until is not null;
create index jobs_waiting on jobs (status) where status in ('validating_files', 'queued') and lease_until is null;
create index job_checkpoints_unserved on job_checkpoints (job_id) where kind = 'resume' or model is null;
create index models_to_remove on models (deleted_at) where deleted_at is not null and files <> '[]';
