-- Describe the roles for people: psql shows the descriptions with \du+. A description of a role belongs to the whole cluster, and
-- is written only if it differs. To write it, a role needs the right to change the other role. In a cluster whose administrator
-- keeps this right for himself, the script leaves the descriptions to him (db/initdb has them for docker-compose.yml).
do $$
declare
    described record;
begin
    for described in
        select name, description
        from (
            values
                ('rakuten_owner', 'Owns the tables and functions of the pipeline, and logs in only to upgrade the schema.'),
                ('rakuten_loader', 'Loads the weeks and corrections, and may do no other step of the pipeline.'),
                ('rakuten_snapshot', 'Builds the datasets, and may do no other step of the pipeline.'),
                ('rakuten_training', 'Trains the models, and may read neither products nor labels nor their history.'),
                ('rakuten_server', 'Reads which model is champion, for the model server, and nothing else.'),
                ('rakuten_reader', 'Reads everything and changes nothing: the role for people and reports.')
        ) as wanted (name, description)
        join pg_roles on rolname = name
        where description is distinct from shobj_description(pg_roles.oid, 'pg_authid')
    loop
        begin
            execute format('comment on role %I is %L', described.name, described.description);
        exception when insufficient_privilege then
            null;
        end;
    end loop;
end;
$$;
