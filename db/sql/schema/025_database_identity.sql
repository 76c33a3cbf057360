-- Return the identity of this database: the cluster's system identifier, the name of the database and the oid of the table
-- data_loads. A standby that was promoted keeps the identity. Every other copy has an identity of its own: a dump that was
-- restored, a database that was created from this one as its template, and a schema that was created anew under the same name.
-- MLflow's experiments and registered model carry the identity as a tag (listeners/tracking/ownership.py). So two databases that
-- share one MLflow never write to the same names.
create or replace function internal.database_identity() returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select format('%s/%s/%s', system_identifier, current_database(), 'public.data_loads'::regclass::oid) from pg_control_system()
$$;
