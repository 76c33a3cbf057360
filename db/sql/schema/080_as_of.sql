-- The products as of a batch or of a moment, and today.

-- Every product with its label as the history knew it: of the entries up to a batch's watermarks (any batch's when it is
-- null) and up to a moment, the newest of each product. A product is its `id`, so that one that was deleted and inserted
-- again, or whose productid was corrected, stays clear.
-- The newest entries are found, and their labels, from the indexes alone; only then are their rows fetched, in the order in
-- which they lie on disk (ORDER BY also keeps the planner from mixing the two steps). Else a million wide entries would be
-- read, hashed and spilled to keep 400,000 of them: twice the cost (tests/benchmarks/bench_as_of.py).
-- The labels' newest entries are found by GROUP BY and a join, whose size the planner can estimate, unlike DISTINCT ON's.
-- `(history_id > watermark) is not true` is `history_id <= watermark` for the result and not for the planner, which takes the
-- latter for a third of the entries, whatever the batch, and then sorts and spills what the index has in order.
-- No SET clause, no SECURITY DEFINER, and arguments without sub-selects: so the planner inlines these functions into the
-- query that calls them, reads only the columns it asks for, and drops a condition that its arguments make true.
create or replace function products_at(batch_id bigint, moment timestamptz)
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
        left join (
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

-- The products as a completed batch left them; none for a batch that is unknown or not complete.
create or replace function products_as_of_batch(batch_id bigint)
returns table (
    id bigint, productid bigint, designation text, description text, imageid bigint, image_path text,
    sample_rank bigint, split text, prdtypecode integer
)
language sql stable
as $$
    select * from public.products_at(coalesce(batch_id, 0), 'infinity')
$$;

-- The products at a point in time. Statements are stamped when they run, not when they commit: prefer a batch.
create or replace function products_as_of(moment timestamptz)
returns table (
    id bigint, productid bigint, designation text, description text, imageid bigint, image_path text,
    sample_rank bigint, split text, prdtypecode integer
)
language sql stable
as $$
    select * from public.products_at(null, moment)
$$;

-- What differs between two completed batches, a line for each product that is not the same in both: which of text, image, label
-- and split, its class (the later one where that was corrected), and the product as each batch left it. A product is its
-- productid here: one that was deleted and inserted again just as it was does not differ.
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

create or replace view training_products as
select
    products.id, productid, designation, description, imageid, image_path, sample_rank, prdtypecode
from products
join labels using (productid)
where split = 'train';
