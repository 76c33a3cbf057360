-- The hash chain of the completed batches. Every completed batch has a seal. The seal is a digest of the batch's entries in
-- products_history and labels_history, the batch's data (such as its name, number of rows and source files) and the seal of the
-- batch before. An attacker who changes a history entry, a batch or the order of the batches can hide this only by changing
-- the seals of the first affected batch and of all later batches, and the copies of these seals in the tags of the MLflow runs.

-- Return the digest of the entries of products_history whose history_id is greater than `after` and at most `up_to`. The digest
-- of one entry is the SHA-256 of the JSON array of its columns. The returned digest is the SHA-256 of all these digests in
-- sorted order, so it does not depend on the order in which PostgreSQL reads the rows. Times are written as seconds since 1970,
-- which do not depend on the time zone or the date style.
create or replace function internal.products_history_digest(after bigint, up_to bigint) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select encode(sha256(coalesce(string_agg(digest, ''::bytea order by digest), ''::bytea)), 'hex')
    from (
        select sha256(convert_to(jsonb_build_array(
            history_id, product_id, productid, designation, description, imageid, image_path, operation_type,
            extract(epoch from operation_date), load_batch_id, sample_rank, split, extract(epoch from created_at), changed_by,
            application, transaction_id
        )::text, 'UTF8')) as digest
        from public.products_history
        where history_id > after and history_id <= up_to
    ) as entries
$$;

-- Return the digest of the entries of labels_history whose history_id is greater than `after` and at most `up_to`. The
-- digest of one entry is the SHA-256 of the JSON array of its columns. The returned digest is the SHA-256 of all these digests
-- in sorted order.
create or replace function internal.labels_history_digest(after bigint, up_to bigint) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select encode(sha256(coalesce(string_agg(digest, ''::bytea order by digest), ''::bytea)), 'hex')
    from (
        select sha256(convert_to(jsonb_build_array(
            history_id, label_id, productid, prdtypecode, operation_type,
            extract(epoch from operation_date), load_batch_id, changed_by, application, transaction_id
        )::text, 'UTF8')) as digest
        from public.labels_history
        where history_id > after and history_id <= up_to
    ) as entries
$$;

-- Compute the digests of a completed batch's history entries, and the batch's seal. The digests are computed from the history
-- as it is now. The record that was stored at the batch's completion is in data_loads, in metadata -> 'audit'; verify_seals
-- compares the two.
create or replace function internal.audit_of(batch data_loads) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    number          bigint := (batch.metadata #>> '{audit,number}')::bigint;
    before          public.batches := (
        select batches from public.batches where status = 'completed' and chain_number = number - 1
    );
    products_after  bigint := coalesce(before.products_up_to, 0);
    labels_after    bigint := coalesce(before.labels_up_to, 0);
    products_up_to  bigint := (batch.metadata #>> '{audit,products_history_id}')::bigint;
    labels_up_to    bigint := (batch.metadata #>> '{audit,labels_history_id}')::bigint;
    products_digest text := internal.products_history_digest(products_after, products_up_to);
    labels_digest   text := internal.labels_history_digest(labels_after, labels_up_to);
begin
    return jsonb_build_object(
        'number', number,
        'products_history_id', products_up_to,
        'labels_history_id', labels_up_to,
        'products_digest', products_digest,
        'labels_digest', labels_digest,
        'seal', encode(sha256(convert_to(jsonb_build_array(
            number, before.seal,
            batch.id, batch.batch_name, batch.percentage, batch.total_rows,
            extract(epoch from batch.started_at), extract(epoch from batch.completed_at),
            batch.metadata -> 'source', batch.metadata -> 'load',
            products_up_to, labels_up_to, products_digest, labels_digest
        )::text, 'UTF8')), 'hex')
    );
end;
$$;

-- Return every batch that was completed, oldest first. `problem` says what is wrong with the batch's seal, or is null if the seal
-- is correct. The check computes the seal of a batch from the stored seal of the batch before. If it also computed the seal of
-- the batch before anew, a single change would be reported for all later batches, too.
create or replace function internal.verify_seals() returns table (batch_id bigint, batch_name text, seal text, problem text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with audits as materialized (  -- so that PostgreSQL computes each batch once
        select
            id, batches.batch_name, status,
            metadata -> 'audit' as recorded, internal.audit_of(batches) as computed
        from public.data_loads as batches
        where status = 'completed' or metadata ? 'audit'
    )
    select
        id,
        audits.batch_name,
        recorded ->> 'seal',
        case
            when recorded ->> 'seal' is null then 'the batch has no seal'
            when status <> 'completed' then 'the batch has a seal, but its status is ' || status
            when computed ->> 'products_digest' is distinct from recorded ->> 'products_digest' then 'products_history was changed'
            when computed ->> 'labels_digest' is distinct from recorded ->> 'labels_digest' then 'labels_history was changed'
            when computed <> recorded then 'data_loads was changed: this batch, or the seal of the one before'
        end
    from audits
    order by (recorded ->> 'number')::bigint, id
$$;

-- Return what differs between the tables products and labels and their newest history entries: one row for each product and each
-- label that was changed without a history entry, or whose entry has no row. The columns that identify it: `table_name`, and
-- the `id` and the `productid` of the row, or of the entry that has no row.
--
-- Two rows are compared as a whole, with null equal to null. A full join reads each table once, and the planner cannot choose a
-- nested loop for it. Two EXCEPTs would sort all texts twice.
create or replace function internal.unrecorded_changes() returns table (table_name text, id bigint, productid bigint)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with recorded_products as (
        select
            product_id as id, productid, designation, description, imageid, image_path, sample_rank, split, created_at
        from public.products_history as entry
        join (select max(history_id) as history_id from public.products_history group by product_id) as newest using (history_id)
        where operation_type <> 'DELETE'
    ),
    present_products as (
        select id, productid, designation, description, imageid, image_path, sample_rank, split, created_at from public.products
    ),
    recorded_labels as (
        select label_id as id, productid, prdtypecode
        from public.labels_history as entry
        join (select max(history_id) as history_id from public.labels_history group by label_id) as newest using (history_id)
        where operation_type <> 'DELETE'
    ),
    present_labels as (select id, productid, prdtypecode from public.labels)
    select 'products', id, coalesce(present.productid, recorded.productid)
    from present_products as present
    full join recorded_products as recorded using (id)
    where present is distinct from recorded
    union all
    select 'labels', id, coalesce(present.productid, recorded.productid)
    from present_labels as present
    full join recorded_labels as recorded using (id)
    where present is distinct from recorded
$$;

-- Return the record of a stage with its own digest, under the key `sha256`.
create or replace function internal.with_digest(record jsonb) returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select record || jsonb_build_object('sha256', encode(sha256(convert_to((record - 'sha256')::text, 'UTF8')), 'hex'))
$$;
