-- Reading the past and the present.

-- Every product with its label as the history knew it: of the entries up to a batch's watermarks (any batch's when it is
-- null) and up to a moment, the newest of each product. A product is its `id`, so that one that was deleted and inserted
-- again, or whose productid was corrected, stays clear.
-- "The newest" is said as "there is no later one": without statistics, which a database has none of right after its first
-- load, the planner takes a GROUP BY for 200 rows and joins it in nested loops, and an anti-join for what it is.
-- No SET clause, no SECURITY DEFINER, and arguments without sub-selects: so the planner inlines these functions into the
-- query that calls them, and reads only the columns it asks for.
create or replace function products_at(batch_id bigint, moment timestamptz)
returns table (
    id bigint, productid bigint, designation text, description text, imageid bigint, image_path text,
    sample_rank bigint, split text, prdtypecode integer
)
language sql stable
as $$
    select
        product.product_id,
        product.productid,
        product.designation,
        product.description,
        product.imageid,
        product.image_path,
        product.sample_rank,
        product.split,
        label.prdtypecode
    from public.products_history as product
    left join (
        select entry.productid, entry.prdtypecode
        from public.labels_history as entry
        where entry.operation_type <> 'DELETE'
            and entry.operation_date <= moment
            and (batch_id is null or entry.history_id <= (
                select (metadata #>> '{audit,labels_history_id}')::bigint from public.data_loads where data_loads.id = batch_id
            ))
            and not exists (
                select from public.labels_history as later
                where later.label_id = entry.label_id
                    and later.history_id > entry.history_id
                    and later.operation_date <= moment
                    and (batch_id is null or later.history_id <= (
                        select (metadata #>> '{audit,labels_history_id}')::bigint from public.data_loads where data_loads.id = batch_id
                    ))
            )
    ) as label using (productid)
    where product.operation_type <> 'DELETE'
        and product.operation_date <= moment
        and (batch_id is null or product.history_id <= (
            select (metadata #>> '{audit,products_history_id}')::bigint from public.data_loads where data_loads.id = batch_id
        ))
        and not exists (
            select from public.products_history as later
            where later.product_id = product.product_id
                and later.history_id > product.history_id
                and later.operation_date <= moment
                and (batch_id is null or later.history_id <= (
                    select (metadata #>> '{audit,products_history_id}')::bigint from public.data_loads where data_loads.id = batch_id
                ))
        )
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
