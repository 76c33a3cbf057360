-- Reading the past and the present.

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
                    select (metadata #>> '{audit,products_history_id}')::bigint from public.data_loads where data_loads.id = batch_id
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
                        select (metadata #>> '{audit,labels_history_id}')::bigint from public.data_loads where data_loads.id = batch_id
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

create or replace function seconds_between(earlier timestamptz, later text) returns double precision
language sql stable
return extract(epoch from later::timestamptz - earlier)::double precision;

-- The wake ledger: one line for each completed batch and stage. What woke its worker, and the seconds from one step to the
-- next: the batch is ready (loaded, or its dataset is there) -> a worker wakes -> claims it -> is done. All times are the
-- server's. A batch that was repeated shows its latest attempt; `ready_at` stays the first moment it could be worked on.
create or replace view stage_ledger as
select
    data_loads.id as batch_id,
    batch_name,
    stages.stage,
    coalesce(record ->> 'state', 'waiting') as state,
    coalesce((record ->> 'attempt')::integer, 0) as attempts,
    coalesce((record ->> 'failures')::integer, 0) as failures,
    coalesce((record ->> 'outages')::integer, 0) as outages,
    record ->> 'wake' as wake,
    ready_at,
    (record ->> 'woken_at')::timestamptz as woken_at,
    (record ->> 'claimed_at')::timestamptz as claimed_at,
    (record ->> 'finished_at')::timestamptz as finished_at,
    (record ->> 'retry_at')::timestamptz as retry_at,
    (record ->> 'outage_since')::timestamptz as outage_since,
    seconds_between(ready_at, record ->> 'woken_at') as ready_to_wake_s,
    seconds_between((record ->> 'woken_at')::timestamptz, record ->> 'claimed_at') as wake_to_claim_s,
    seconds_between((record ->> 'claimed_at')::timestamptz, record ->> 'finished_at') as claim_to_done_s,
    record ->> 'worker' as worker,
    record #>> '{result,run_id}' as run_id,
    record ->> 'error' as error,
    exists (
        select from pg_catalog.pg_locks
        where locktype = 'advisory'
            and granted
            and database = (select oid from pg_catalog.pg_database where datname = current_database())
            and classid::bigint = stage_lock_class(stages.stage)
            and objid::bigint = data_loads.id
    ) as held
from data_loads
cross join lateral (
    values
        ('snapshot', metadata -> 'snapshot', completed_at),
        ('training', metadata -> 'training', (metadata #>> '{snapshot,finished_at}')::timestamptz)
) as stages (stage, record, ready_at)
where status = 'completed'
order by data_loads.id, stages.stage;

-- One line a batch: what was loaded, and what each stage made of it, with the seconds from one event to the next.
create or replace view pipeline_status as
select
    id as batch_id,
    batch_name,
    percentage,
    status,
    total_rows,
    (metadata #>> '{load,rows}')::bigint as new_rows,
    started_at,
    completed_at,
    metadata #>> '{load,error}' as load_error,
    coalesce(metadata #>> '{snapshot,state}', 'waiting') as snapshot_state,
    (metadata #>> '{snapshot,attempt}')::integer as snapshot_attempts,
    metadata #>> '{snapshot,wake}' as snapshot_wake,
    (metadata #>> '{snapshot,result,total_rows}')::bigint as snapshot_rows,
    metadata #>> '{snapshot,result,run_id}' as dataset_run_id,
    seconds_between(completed_at, metadata #>> '{snapshot,woken_at}') as commit_to_wake_s,
    seconds_between(completed_at, metadata #>> '{snapshot,finished_at}') as commit_to_dataset_s,
    metadata #>> '{snapshot,error}' as snapshot_error,
    coalesce(metadata #>> '{training,state}', 'waiting') as training_state,
    (metadata #>> '{training,attempt}')::integer as training_attempts,
    metadata #>> '{training,wake}' as training_wake,
    metadata #>> '{training,result,run_id}' as model_run_id,
    (metadata #>> '{training,result,model_version}')::integer as model_version,
    (metadata #>> '{training,result,champion}')::boolean as became_champion,
    (metadata #>> '{training,result,f1_score}')::double precision as f1_score,
    (metadata #>> '{training,result,f1_score_ci_low}')::double precision as f1_score_ci_low,
    (metadata #>> '{training,result,f1_score_ci_high}')::double precision as f1_score_ci_high,
    (metadata #>> '{training,result,accuracy}')::double precision as accuracy,
    seconds_between((metadata #>> '{snapshot,finished_at}')::timestamptz, metadata #>> '{training,woken_at}') as dataset_to_wake_s,
    seconds_between(completed_at, metadata #>> '{training,finished_at}') as commit_to_model_s,
    metadata #>> '{training,error}' as training_error,
    seconds_between((metadata #>> '{snapshot,woken_at}')::timestamptz, metadata #>> '{snapshot,claimed_at}')
        as snapshot_wake_to_claim_s,
    seconds_between((metadata #>> '{snapshot,claimed_at}')::timestamptz, metadata #>> '{snapshot,finished_at}')
        as snapshot_claim_to_done_s,
    (metadata #>> '{snapshot,failures}')::integer as snapshot_failures,
    (metadata #>> '{snapshot,outages}')::integer as snapshot_outages,
    seconds_between((metadata #>> '{training,woken_at}')::timestamptz, metadata #>> '{training,claimed_at}')
        as training_wake_to_claim_s,
    seconds_between((metadata #>> '{training,claimed_at}')::timestamptz, metadata #>> '{training,finished_at}')
        as training_claim_to_done_s,
    (metadata #>> '{training,failures}')::integer as training_failures,
    (metadata #>> '{training,outages}')::integer as training_outages
from data_loads
order by id;
