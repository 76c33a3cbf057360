-- Seals: every completed batch carries a digest of its history entries, chained to the batch before. Whoever changes an
-- entry, a batch or their order must change every seal from there on, and the tags that MLflow keeps of them.

-- The digest of entries in (after, up_to]: SHA-256 over the sorted SHA-256 of each, so that no order of rows matters.
-- An entry is the JSON array of its columns; moments are seconds since 1970, which no time zone or date style changes.
create or replace function products_history_digest(after bigint, up_to bigint) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select encode(sha256(coalesce(string_agg(digest, ''::bytea order by digest), ''::bytea)), 'hex')
    from (
        select sha256(convert_to(jsonb_build_array(
            history_id, product_id, productid, designation, description, imageid, image_path, operation_type,
            extract(epoch from operation_date), load_batch_id, sample_rank, split, changed_by, application, transaction_id
        )::text, 'UTF8')) as digest
        from public.products_history
        where history_id > after and history_id <= up_to
    ) as entries
$$;

create or replace function labels_history_digest(after bigint, up_to bigint) returns text
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

-- What a completed batch is sealed with, computed from the history as it is now: metadata -> audit.
create or replace function audit_of(batch data_loads) returns jsonb
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
    products_digest text := public.products_history_digest(products_after, products_up_to);
    labels_digest   text := public.labels_history_digest(labels_after, labels_up_to);
begin
    return jsonb_build_object(
        'number', number,
        'products_history_id', products_up_to,
        'labels_history_id', labels_up_to,
        'products_digest', products_digest,
        'labels_digest', labels_digest,
        'seal', encode(sha256(convert_to(jsonb_build_array(
            number, before.seal,
            batch.id, batch.batch_name, batch.percentage, batch.total_rows, extract(epoch from batch.completed_at),
            batch.metadata -> 'source',
            products_up_to, labels_up_to, products_digest, labels_digest
        )::text, 'UTF8')), 'hex')
    );
end;
$$;

-- Every completed batch, oldest first, with what is wrong with its seal; null where nothing is.
-- A batch is held against the recorded seal of the one before, so that one change points at one batch.
create or replace function verify_seals() returns table (batch_id bigint, batch_name text, seal text, problem text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with audits as materialized (  -- each batch computed once
        select id, batches.batch_name, completed_at, metadata -> 'audit' as recorded, public.audit_of(batches) as computed
        from public.data_loads as batches
        where status = 'completed'
    )
    select
        id,
        audits.batch_name,
        recorded ->> 'seal',
        case
            when recorded ->> 'seal' is null then 'it carries no seal'
            when computed ->> 'products_digest' is distinct from recorded ->> 'products_digest' then 'products_history was changed'
            when computed ->> 'labels_digest' is distinct from recorded ->> 'labels_digest' then 'labels_history was changed'
            when computed <> recorded then 'data_loads was changed: this batch, or the seal of the one before'
        end
    from audits
    order by (recorded ->> 'number')::bigint, completed_at
$$;
