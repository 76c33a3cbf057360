-- The functions that return the products as they were after a batch or at a point in time, and a view of the training products
-- as they are now.

-- Return every product with its label, as the newest history entries of the product and of the label recorded them. Entries
-- after a batch's watermarks (its last history ids) and entries after a moment are ignored. If `batch_id` is null, only the
-- moment limits the entries. A product is identified by its `id`. So a product that was deleted and inserted again counts as
-- another product, and a product whose productid was corrected stays the same product.
--
-- The query first finds the newest entries and their labels from the indexes alone. Only then does it fetch the rows, in the
-- order in which they lie on disk. (ORDER BY also keeps the planner from mixing the two steps.) A query that did both in one
-- step would cost twice as much: PostgreSQL would read, hash and spill a million wide entries, to keep 400,000 of them
-- (tests/benchmarks/bench_as_of.py). For the labels, GROUP BY and a join find the newest entries, because the planner can
-- estimate how many rows these return. It cannot estimate this for DISTINCT ON.
--
-- The labels come by a full join, because PostgreSQL runs a full join only as a hash join or a merge join. Without statistics, as
-- after a restore, it expects 200 products and 200 labels, and would compare each product with each label in a nested loop. That
-- takes hours for 300,000 products. A label without a product gets no history_id, so the last join drops it.
--
-- `(history_id > watermark) is not true` gives the same rows as `history_id <= watermark`, because neither side can be null
-- (`coalesce` gives 0 if there is no watermark). But PostgreSQL plans it better. With `<=` the planner expects a third of the
-- entries for every batch. Then it sorts the entries, and spills them to disk, although the index already has them in order.
--
-- The planner inlines products_at, products_as_of and products_as_of_batch into the calling query, because they have no
-- SET clause, no SECURITY DEFINER and no sub-select in an argument. So PostgreSQL reads only the columns that the query asks
-- for. It also drops a condition that cannot matter, such as the one on the watermark if `batch_id` is null.
create or replace function internal.products_at(batch_id bigint, moment timestamptz)
returns table (
    id bigint, productid bigint, designation text, description text, imageid bigint, image_path text,
    sample_rank bigint, split text, prdtypecode integer
)
language sql stable
as $$
    select
        entry.product_id,
        entry.productid,
        entry.designation,
        entry.description,
        entry.imageid,
        entry.image_path,
        entry.sample_rank,
        entry.split,
        labelled.prdtypecode
    from (
        select newest.history_id, label.prdtypecode
        from (
            select distinct on (product_id) history_id, productid
            from public.products_history
            where (moment = 'infinity' or operation_date <= moment)
                and (batch_id is null or (history_id > coalesce((
                    select products_up_to from public.batches where batches.id = batch_id
                ), 0)) is not true)
            order by product_id desc, history_id desc
        ) as newest
        full join (
            select entry.productid, entry.prdtypecode
            from (
                select max(history_id) as history_id
                from public.labels_history
                where (moment = 'infinity' or operation_date <= moment)
                    and (batch_id is null or (history_id > coalesce((
                        select labels_up_to from public.batches where batches.id = batch_id
                    ), 0)) is not true)
                group by label_id
            ) as newest
            join public.labels_history as entry using (history_id)
            where entry.operation_type <> 'DELETE'
        ) as label using (productid)
        order by newest.history_id
    ) as labelled
    join public.products_history as entry using (history_id)
    where entry.operation_type <> 'DELETE'
$$;

-- Return the products as a completed batch left them. Return no row for a batch that is unknown or not complete.
create or replace function products_as_of_batch(batch_id bigint)
returns table (
    id bigint, productid bigint, designation text, description text, imageid bigint, image_path text,
    sample_rank bigint, split text, prdtypecode integer
)
language sql stable
as $$
    select * from internal.products_at(coalesce(batch_id, 0), 'infinity')
$$;

-- Return the products at a point in time. A history entry has the time when its statement ran, not the time when its
-- transaction was committed. If the point in time lies between the two, the result changes when the transaction is committed. So
-- prefer products_as_of_batch: its result never changes.
create or replace function products_as_of(moment timestamptz)
returns table (
    id bigint, productid bigint, designation text, description text, imageid bigint, image_path text,
    sample_rank bigint, split text, prdtypecode integer
)
language sql stable
as $$
    select * from internal.products_at(null, moment)
$$;

-- Return what differs between two completed batches: one row for each product that is not the same in both. `change` is
-- added, removed or changed. For a changed product, `differs` lists which of text, image, label and split differ. `prdtypecode`
-- is the product's class in the later batch, or the class in the earlier batch if the later batch has none, for example because
-- the product was removed. `before` and `after` are the whole product in the earlier and in the later batch. The productid
-- identifies a product here, so a product that was deleted and inserted again unchanged does not differ.
create or replace function products_diff(earlier bigint, later bigint)
returns table (productid bigint, change text, differs text[], prdtypecode integer, before jsonb, after jsonb)
language sql stable
as $$
    select
        productid,
        case when before.id is null then 'added' when after.id is null then 'removed' else 'changed' end,
        case when before.id is not null and after.id is not null then array_remove(array[
            case when (before.designation, before.description) is distinct from (after.designation, after.description) then 'text' end,
            case when (before.imageid, before.image_path) is distinct from (after.imageid, after.image_path) then 'image' end,
            case when before.prdtypecode is distinct from after.prdtypecode then 'label' end,
            case when before.split is distinct from after.split then 'split' end
        ], null) end,
        coalesce(after.prdtypecode, before.prdtypecode),
        to_jsonb(before),
        to_jsonb(after)
    from public.products_as_of_batch(earlier) as before
    full join public.products_as_of_batch(later) as after using (productid)
    where (
        before.designation, before.description, before.imageid, before.image_path, before.prdtypecode, before.split
    ) is distinct from (
        after.designation, after.description, after.imageid, after.image_path, after.prdtypecode, after.split
    ) or before.id is null or after.id is null
$$;

-- Every product that has a label and is not held out, in its current state, with the name of its class.
create or replace view training_products as
select
    products.id, productid, designation, description, imageid, image_path, sample_rank, prdtypecode,
    coalesce(categories.name, 'unknown') as category
from products
join labels using (productid)
left join categories using (prdtypecode)
where split = 'train';
