-- Exports of every kind of model: what the check compared.
alter table model_exports
  add column compared text check (compared in ('logprobs', 'outputs', 'vectors'));
update model_exports set compared = 'logprobs' where largest_difference is not null;
comment on column model_exports.largest_difference is 'between what the served and the exported model say';
