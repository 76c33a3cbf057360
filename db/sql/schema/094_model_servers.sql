-- Show which version of the model each model server serves. A server may only read, so it has no table to write this into. It
-- writes it into the name of its connection instead, each time it pings PostgreSQL: `rakuten server 3`, or `rakuten server 3
-- refuses 4` if it could not load the champion, or found other files than those that the training stage logged.

-- Return the connections of the model servers to this database. As in listener_sessions(), the function runs with its owner's
-- rights, because PostgreSQL shows the time of the last statement only to some roles.
create or replace function internal.model_server_sessions()
returns table (pid integer, client_address inet, version integer, refused_version integer, last_sign_of_life timestamptz)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select
        pid,
        client_addr,
        substring(application_name from '^rakuten server ([0-9]{1,9})')::integer,
        substring(application_name from ' refuses ([0-9]{1,9})$')::integer,
        state_change
    from pg_catalog.pg_stat_activity
    where datname = current_database() and application_name ~ '^rakuten server( [0-9]{1,9})?( refuses [0-9]{1,9})?$'
$$;

-- One row for each model server that is connected.
create or replace view model_servers as
select pid, client_address, version, refused_version, last_sign_of_life from internal.model_server_sessions();
