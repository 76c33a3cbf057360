-- Create one role for each step of the pipeline (load, snapshot, training), one for the model server and one for reading. Grant
-- each role only the rights that it needs. The new roles cannot log in; the administrator of the PostgreSQL cluster makes them
-- logins. Roles belong to the whole cluster. So a role may exist already, or the upgrade of another database of the cluster may
-- create it at the same time; neither is an error.

do $$
declare
    role_name text;
begin
    foreach role_name in array
        array['rakuten_loader', 'rakuten_snapshot', 'rakuten_training', 'rakuten_server', 'rakuten_reader']
    loop
        if not exists (select from pg_roles where rolname = role_name) then
            begin
                execute format('create role %I nologin', role_name);
            exception
                when duplicate_object or unique_violation then
                    null;
                when insufficient_privilege then
                    raise exception 'the role % does not exist, and % may not create it', role_name, current_user
                        using errcode = 'insufficient_privilege',
                            hint = format('the administrator of the cluster runs: create role %I nologin', role_name);
            end;
        end if;
    end loop;
    -- only the loader may create temporary tables in this database
    execute format('revoke temporary on database %I from public', current_database());
    execute format('grant temporary on database %I to rakuten_loader', current_database());
end;
$$;

-- Take back every right on the tables, views, sequences and functions from everybody but their owner. The statements below grant
-- what is needed. To let another login read, grant it the role rakuten_reader: a right of its own would be taken back here.
do $$
declare
    entry record;
begin
    for entry in
        select distinct
            case when relkind = 'S' then 'sequence' else 'table' end as kind, oid::regclass::text as name, grantee
        from pg_class, aclexplode(relacl)
        where relnamespace = 'public'::regnamespace and relowner = current_user::regrole and grantee <> relowner
        union  -- a right on a column: `revoke ... on table` takes it back, too
        select 'table', relation.oid::regclass::text, grantee
        from pg_class as relation
        join pg_attribute on attrelid = relation.oid
        cross join aclexplode(attacl)
        where relnamespace = 'public'::regnamespace and relowner = current_user::regrole and grantee <> relowner
        union all
        select distinct 'schema', nspname, grantee
        from pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner)))
        where nspname in ('public', 'internal') and grantee not in (nspowner, current_user::regrole)
        union all
        select distinct 'routine', oid::regprocedure::text, grantee
        from pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner)))
        where pronamespace in ('public'::regnamespace, to_regnamespace('internal'))
            and proowner = current_user::regrole
            and grantee <> proowner
    loop
        execute format(
            'revoke all on %s %s from %s cascade',
            entry.kind, entry.name, case when entry.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(entry.grantee)) end
        );
    end loop;
end;
$$;

-- The role that runs this script owns the SECURITY DEFINER functions, so these functions run with its rights. It needs the
-- right to use the schema public. If it does not own the schema, it had only the right of PUBLIC, which the block above has taken
-- back.
grant usage on schema public to current_user;
grant usage on schema public, internal
to rakuten_loader, rakuten_snapshot, rakuten_training, rakuten_server, rakuten_reader;

-- Most roles may read all tables. rakuten_training may not read the tables `products` and `labels` or their two history tables:
-- it does not need them, because the training stage reads its dataset from MLflow. rakuten_server may read which model is
-- champion, and nothing else.
grant select on all tables in schema public to rakuten_reader, rakuten_loader, rakuten_snapshot;
grant select on data_loads, batches, pipeline_status, stage_ledger to rakuten_training;
grant select on champion to rakuten_server;
grant execute on function
    internal.products_at(bigint, timestamptz),
    products_as_of_batch(bigint),
    products_as_of(timestamptz),
    products_diff(bigint, bigint),
    pipeline_doctor(interval, interval),
    internal.listener_sessions(),
    internal.model_server_sessions(),
    internal.artifact_files(),
    internal.wal_bytes(),
    internal.claim_renewed_at(bigint, text),
    internal.verify_seals(),
    internal.unrecorded_changes(),
    internal.with_digest(jsonb),
    internal.audit_of(data_loads),
    internal.products_history_digest(bigint, bigint),
    internal.labels_history_digest(bigint, bigint)
to rakuten_reader, rakuten_loader, rakuten_snapshot;
grant execute on function
    internal.pending_batches(text),
    internal.ready_at(jsonb, timestamptz, timestamptz),
    internal.stage_lock_class(text),
    internal.seconds_between(timestamptz, text),
    internal.week_of_batch(bigint),
    internal.database_identity()
to rakuten_reader, rakuten_loader, rakuten_snapshot, rakuten_training;
grant execute on function internal.pipeline_metrics(numeric), internal.storage_metrics()
to rakuten_reader, rakuten_snapshot, rakuten_training;
grant execute on function internal.record_verification(integer, integer) to rakuten_reader;

grant insert, update, delete on products, labels to rakuten_loader;
grant insert on confirmed_labels to rakuten_loader;
grant execute on function
    internal.claim_batch(text, numeric, jsonb),
    internal.begin_batch(bigint),
    internal.record_load(bigint, jsonb),
    internal.fail_batch(bigint, text),
    internal.complete_batch(bigint)
to rakuten_loader;

grant execute on function
    internal.claim_stage(bigint, text, text, text, interval),
    internal.claim_next(text, text, text, interval, jsonb),
    internal.hold_stage(bigint, text, integer),
    internal.holds_stage(bigint, text, integer),
    internal.finish_stage(bigint, text, integer, jsonb),
    internal.fail_stage(bigint, text, integer, text, interval),
    internal.postpone_stage(bigint, text, integer, text, interval, interval),
    internal.reopen_stage(bigint, text, text, text),
    internal.release_stage(bigint, text, integer),
    internal.retry_stage(bigint, text)
to rakuten_snapshot, rakuten_training;
grant execute on function internal.record_champion_moves(jsonb) to rakuten_training;
