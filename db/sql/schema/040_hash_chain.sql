-- The hash chain of the completed batches. Every completed batch has a seal: a digest of its history entries, its own data and
-- the seal of the batch before. To hide a change of an entry, of a batch or of the order of the batches, an attacker must
-- change every later seal, and also the copies of the seals in the tags of the MLflow runs.

-- Return the digest of the history entries with an id greater than `after` and up to `up_to`. The digest is the SHA-256 of the
-- sorted SHA-256 digests of the entries, so the digest does not depend on the order in which PostgreSQL reads the rows. The
-- digest of an entry is taken of the JSON array of its columns. Times are seconds since 1970, which do not depend on the time
-- zone or the date style.
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

-- Return the digest of the entries of labels_history, computed as in products_history_digest.
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

-- Compute the record that seals a completed batch (metadata -> audit) from the history as it is now.
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

-- Return every completed batch, oldest first, with the problem of its seal, or null if the seal is correct. The check of a
-- batch starts from the recorded seal of the batch before, so that one change is reported for one batch only.
create or replace function verify_seals() returns table (batch_id bigint, batch_name text, seal text, problem text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with audits as materialized (  -- so that PostgreSQL computes each batch once
        select id, batches.batch_name, completed_at, metadata -> 'audit' as recorded, public.audit_of(batches) as computed
        from public.data_loads as batches
        where status = 'completed'
    )
    select
        id,
        audits.batch_name,
        recorded ->> 'seal',
        case
            when recorded ->> 'seal' is null then 'the batch has no seal'
            when computed ->> 'products_digest' is distinct from recorded ->> 'products_digest' then 'products_history was changed'
            when computed ->> 'labels_digest' is distinct from recorded ->> 'labels_digest' then 'labels_history was changed'
            when computed <> recorded then 'data_loads was changed: this batch, or the seal of the one before'
        end
    from audits
    order by (recorded ->> 'number')::bigint, completed_at
$$;
