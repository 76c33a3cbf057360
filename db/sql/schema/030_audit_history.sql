-- The audit trail: triggers write every change of products and labels to the tables products_history and labels_history. The
-- triggers are statement-level triggers with transition tables, so they insert once per statement, however many rows the
-- statement changes. PostgreSQL allows no transition tables in a trigger for several events, so INSERT, UPDATE and DELETE each
-- have their own trigger.
--
-- In these scripts, every function writes `public.` before the name of each table or function, and has the setting `search_path
-- = pg_catalog, pg_temp`. An empty search_path would be unsafe: PostgreSQL would then look for types in pg_temp first. Any role
-- may create a domain called `text` in pg_temp. A function that uses the type `text` would then run the check of this domain,
-- with the rights of the function's owner.

-- Return the id of the batch that this transaction works for, or null if it works for no batch. The loader writes the id into the
-- setting rakuten.batch_id of its transaction. Any role may set this setting to any value, so this function rejects a value
-- that is not the id of a running batch.
create or replace function internal.current_batch_id() returns bigint
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    setting text := nullif(current_setting('rakuten.batch_id', true), '');
begin
    if setting is null then
        return null;
    end if;
    if setting ~ '^[0-9]{1,18}$' and exists (
        select from public.data_loads where id = setting::bigint and status = 'running'
    ) then
        return setting::bigint;
    end if;
    raise exception 'the setting rakuten.batch_id names no running batch: %', quote_literal(left(setting, 40))
        using errcode = 'invalid_parameter_value',
              hint = 'Claim a batch with internal.claim_batch() and start it with internal.begin_batch(). '
                  'Outside a batch leave the setting unset.';
end;
$$;

-- Notify the channel products_audited that a statement has changed rows of products or labels. The audit triggers call this
-- function once per statement, never once per row, because many notifications would delay other sessions: while a COMMIT writes
-- its notifications, it holds a lock of the whole cluster, and no other session that sends notifications can commit.
create or replace function internal.notify_audited(batch_id bigint, table_name text, operation text, changed_rows bigint)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if changed_rows > 0 then
        perform pg_notify('products_audited', jsonb_build_object(
            'v', 1, 'batch_id', batch_id, 'table', table_name, 'operation', operation, 'rows', changed_rows
        )::text);
    end if;
end;
$$;

-- Reject an inserted row of products or labels whose id the history knows. The history identifies a product and a label by this
-- id, so it would mistake the new row for an earlier product or label, which was deleted. A sequence that was set back gives such
-- ids, for example after `truncate ... restart identity`. The audit functions call this function for the entries that they find.
-- They look for entries only if an inserted id is not greater than all ids of the history: a comparison of two numbers, which the
-- indexes know. (Ids may arrive in another order than that of the sequence, if several sessions insert at the same time.)
create or replace function internal.refuse_known_id(table_name text, id bigint) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'the id % of the table % belongs to an earlier row in the history: the insert is rejected', id, table_name
        using errcode = 'integrity_constraint_violation',
              hint = 'Run rakuten db upgrade, which sets the sequence to the last id of the history. Then insert without an id.';
end;
$$;

-- Write to products_history one entry for each row of `products` that a statement has inserted, deleted or changed. If an UPDATE
-- leaves a row as it was, write no entry for the row. The transition table `changed` holds the inserted rows, the deleted rows
-- or the new version of the updated rows. The function is SECURITY DEFINER, so that a role that changes products needs no right
-- on products_history. The column `changed_by` still gets the role that logged in (session_user).
create or replace function internal.audit_products() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    batch_id     bigint := internal.current_batch_id();
    moment       timestamptz := clock_timestamp();
    changed_rows bigint;
begin
    if tg_op = 'UPDATE' then
        insert into public.products_history (
            product_id, productid, designation, description, imageid, image_path, sample_rank, split, created_at,
            operation_type, operation_date, load_batch_id
        )
        select
            id, changed.productid, changed.designation, changed.description, changed.imageid, changed.image_path,
            changed.sample_rank, changed.split, changed.created_at, tg_op, moment, batch_id
        from changed
        join before_change using (id)
        where changed is distinct from before_change
        order by id;
    else
        if tg_op = 'INSERT'
            and (select min(id) from changed) <= (select max(product_id) from public.products_history)
        then
            perform internal.refuse_known_id(tg_table_name, product_id)
            from public.products_history
            where product_id in (select id from changed);
        end if;
        insert into public.products_history (
            product_id, productid, designation, description, imageid, image_path, sample_rank, split, created_at,
            operation_type, operation_date, load_batch_id
        )
        select
            id, productid, designation, description, imageid, image_path, sample_rank, split, created_at,
            tg_op, moment, batch_id
        from changed
        order by id;
    end if;
    get diagnostics changed_rows = row_count;
    perform internal.notify_audited(batch_id, tg_table_name, tg_op, changed_rows);
    return null;
end;
$$;

-- Write to labels_history one entry for each row of `labels` that a statement has inserted, deleted or changed. The function is
-- SECURITY DEFINER, so that a role that changes labels needs no right on labels_history.
create or replace function internal.audit_labels() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    batch_id     bigint := internal.current_batch_id();
    moment       timestamptz := clock_timestamp();
    changed_rows bigint;
begin
    if tg_op = 'UPDATE' then
        insert into public.labels_history (
            label_id, productid, prdtypecode, operation_type, operation_date, load_batch_id
        )
        select id, changed.productid, changed.prdtypecode, tg_op, moment, batch_id
        from changed
        join before_change using (id)
        where changed is distinct from before_change
        order by id;
    else
        if tg_op = 'INSERT' and (select min(id) from changed) <= (select max(label_id) from public.labels_history) then
            perform internal.refuse_known_id(tg_table_name, label_id)
            from public.labels_history
            where label_id in (select id from changed);
        end if;
        insert into public.labels_history (
            label_id, productid, prdtypecode, operation_type, operation_date, load_batch_id
        )
        select id, productid, prdtypecode, tg_op, moment, batch_id
        from changed
        order by id;
    end if;
    get diagnostics changed_rows = row_count;
    perform internal.notify_audited(batch_id, tg_table_name, tg_op, changed_rows);
    return null;
end;
$$;

-- Reject a statement that updates the column `id` of products or labels. The audit of an UPDATE joins the old and the new
-- version of each row on `id`, so it would miss a row whose id changed.
create or replace function internal.refuse_new_id() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'the column id of the table % must not be changed: the update is rejected', tg_table_name
        using errcode = 'insufficient_privilege', hint = 'Delete the row and insert it again.';
end;
$$;

-- Before a TRUNCATE, delete all rows of the table with DELETE, so that the audit trigger for DELETE records every deleted row.
-- A TRUNCATE alone fires no DELETE trigger and has no transition table.
create or replace function internal.audit_truncate() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    execute format('delete from %I.%I', tg_table_schema, tg_table_name);
    return null;
end;
$$;

-- Create the audit triggers of products and labels. ENABLE ALWAYS makes them fire in every session; without it, a session with
-- `session_replication_role = replica` would skip them.
do $$
declare
    audited text;
begin
    foreach audited in array array['products', 'labels'] loop
        execute replace($triggers$
            create or replace trigger _000_keep_id before update of id on {table}
                for each statement execute function internal.refuse_new_id();
            create or replace trigger _100_audit_insert after insert on {table}
                referencing new table as changed for each statement execute function internal.audit_{table}();
            create or replace trigger _100_audit_update after update on {table}
                referencing old table as before_change new table as changed
                for each statement execute function internal.audit_{table}();
            create or replace trigger _100_audit_delete after delete on {table}
                referencing old table as changed for each statement execute function internal.audit_{table}();
            create or replace trigger _100_audit_truncate before truncate on {table}
                for each statement execute function internal.audit_truncate();
            alter table {table}
                enable always trigger _000_keep_id,
                enable always trigger _100_audit_insert,
                enable always trigger _100_audit_update,
                enable always trigger _100_audit_delete,
                enable always trigger _100_audit_truncate;
        $triggers$, '{table}', audited);
    end loop;
end;
$$;

-- Reject every update, delete and truncate of products_history and labels_history. Only the owner of these tables may rewrite
-- them. A superuser is rejected too, unless he becomes the owner with `set role`.
create or replace function internal.refuse_rewriting_history() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if current_user = (select pg_get_userbyid(relowner) from pg_catalog.pg_class where oid = tg_relid) then
        return null;
    end if;
    raise exception 'the table % is append-only: the operation % is rejected', tg_table_name, tg_op
        using errcode = 'insufficient_privilege',
              hint = 'To correct something, make a new change to products or labels: the history records that change too.';
end;
$$;

create or replace trigger _000_append_only before update or delete or truncate on products_history
    for each statement execute function internal.refuse_rewriting_history();
create or replace trigger _000_append_only before update or delete or truncate on labels_history
    for each statement execute function internal.refuse_rewriting_history();

alter table products_history enable always trigger _000_append_only;
alter table labels_history enable always trigger _000_append_only;

-- For each sequence that gives ids: the id that it gave last, and the last id that the tables know. A sequence that lies behind
-- was set back. Its next ids would be rejected (see refuse_known_id), or would be sorted before older history entries.
create or replace view identities as
select 'products' as table_name, 'products_id_seq' as sequence_name, last_value as last_id, known_id
from products_id_seq, (select max(product_id) as known_id from products_history) as history
union all
select 'labels', 'labels_id_seq', last_value, known_id
from labels_id_seq, (select max(label_id) as known_id from labels_history) as history
union all
select 'products_history', 'products_history_history_id_seq', last_value, known_id
from products_history_history_id_seq, (select max(history_id) as known_id from products_history) as history
union all
select 'labels_history', 'labels_history_history_id_seq', last_value, known_id
from labels_history_history_id_seq, (select max(history_id) as known_id from labels_history) as history
union all
select 'data_loads', 'data_loads_id_seq', last_value, known_id
from data_loads_id_seq, (select max(id) as known_id from data_loads) as batches
union all
select 'champion_moves', 'champion_moves_id_seq', last_value, known_id
from champion_moves_id_seq, (select max(id) as known_id from champion_moves) as moves
union all
select 'verifications', 'verifications_id_seq', last_value, known_id
from verifications_id_seq, (select max(id) as known_id from verifications) as verified;

-- Set the sequences that lie behind to the last known id.
select setval(sequence_name::regclass, known_id) from identities where last_id < known_id;
