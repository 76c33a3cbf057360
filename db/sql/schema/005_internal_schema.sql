-- The schema `internal` holds the functions that only our own code calls: the commands, the listeners and the triggers. The
-- schema public holds the tables, the views and the functions that are made for people, so psql shows only these functions with
-- \df. Our own connections find both, because their search_path is `public, internal, pg_temp`
-- (queries/session/pin_settings.sql).
create schema if not exists internal;
comment on schema internal is 'The functions that only the code of the pipeline calls.';
