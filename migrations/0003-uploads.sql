-- Large files in parts: each part is an object, and completing joins them into the object of a file.
create table uploads (
  id text primary key,                       -- upload_...
  project_id text not null references projects,
  filename text not null,
  purpose text not null,
  bytes bigint not null,                     -- what all parts together must be
  mime_type text not null,
  expires_after_seconds int,                 -- of the file that it becomes
  status text not null default 'pending' check (status in ('pending', 'completed', 'cancelled', 'expired')),
  file_id text,                              -- once it is completed
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,           -- afterwards no part comes in and nothing is completed
  cleaned_at timestamptz                     -- nothing of it lies in the object store any more
);
create index uploads_to_clean on uploads (expires_at) where cleaned_at is null;

create table upload_parts (
  id text primary key,                       -- part_...
  upload_id text not null references uploads on delete cascade,
  bytes bigint not null,
  created_at timestamptz not null default now()
);
create index upload_parts_by_upload on upload_parts (upload_id);
