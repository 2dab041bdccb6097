-- The history of jobs that ran elsewhere, and their models, which are named here but whose weights are not here.
alter table jobs add column imported_from text;  -- the address of the API that it was read from
alter table models drop constraint models_kind_check;
alter table models add constraint models_kind_check check (kind in ('base', 'adapter', 'full', 'elsewhere'));
