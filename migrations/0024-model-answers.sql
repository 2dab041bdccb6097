-- What a model answers with, as its files say: a classifier may be registered as a base model, and its architecture does not tell.
alter table models
  add column answers text check (answers in ('text', 'classes', 'vectors'));
comment on column models.answers is 'of a base model, and of those that were trained from it; null: it was registered before this was asked';
