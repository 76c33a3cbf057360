-- Reading the past and the present.

-- Every product with its label as the history knew it: of the entries up to a batch's watermarks (any batch's when it is
-- null) and up to a moment, the newest of each product. A product is its `id`, so that one that was deleted and inserted
-- again, or whose productid was corrected, stays clear.
-- "The newest" is said as "there is no later one": without statistics, which a database has none of right after its first
-- load, the planner takes a GROUP BY for 200 rows and joins it in nested loops, and an anti-join for what it is.
-- No SET clause, no SECURITY DEFINER, and arguments without sub-selects: so the planner inlines these functions into the
-- query that calls them, and reads only the columns it asks for.
create function products_at(batch_id bigint, moment timestamptz)
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
create function products_as_of_batch(batch_id bigint)
returns table (
    id bigint, productid bigint, designation text, description text, imageid bigint, image_path text,
    sample_rank bigint, split text, prdtypecode integer
)
language sql stable
as $$
    select * from public.products_at(coalesce(batch_id, 0), 'infinity')
$$;

-- The products at a point in time. Statements are stamped when they run, not when they commit: prefer a batch.
create function products_as_of(moment timestamptz)
returns table (
    id bigint, productid bigint, designation text, description text, imageid bigint, image_path text,
    sample_rank bigint, split text, prdtypecode integer
)
language sql stable
as $$
    select * from public.products_at(null, moment)
$$;

create view training_products as
select
    products.id, productid, designation, description, imageid, image_path, sample_rank, prdtypecode
from products
join labels using (productid)
where split = 'train';

create function seconds_between(earlier timestamptz, later text) returns double precision
language sql stable
return extract(epoch from later::timestamptz - earlier)::double precision;

-- One line a batch: what was loaded, and what each stage made of it, with the seconds from one event to the next.
create view pipeline_status as
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
    metadata #>> '{training,error}' as training_error
from data_loads
order by id;
