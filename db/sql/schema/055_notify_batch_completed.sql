-- Notify the snapshot listener when a batch is completed. PostgreSQL sends the notification when the completion commits.

create or replace function internal.notify_batch_completed() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_notify('batch_completed', jsonb_build_object('v', 1, 'batch_id', new.id)::text);
    return null;
end;
$$;

create or replace trigger _900_notify_insert after insert on data_loads
    for each row when (new.status = 'completed') execute function internal.notify_batch_completed();
create or replace trigger _900_notify_update after update on data_loads
    for each row when (new.status = 'completed' and old.status <> 'completed') execute function internal.notify_batch_completed();

alter table data_loads
    enable always trigger _900_notify_insert,
    enable always trigger _900_notify_update;
