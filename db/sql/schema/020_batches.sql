-- One row for each batch. Other SQL and Python code reads the JSON column data_loads.metadata through the columns of this
-- view, so only the view knows the paths in the JSON. The planner inlines the view: a column that a query does not ask for
-- costs nothing, and PostgreSQL can use the indexes on expressions of `metadata`.
create or replace view batches as
select
    data_loads.id,
    batch_name,
    split_part(batch_name, '_', 1) as kind,  -- 'week' or 'correction'
    split_part(batch_name, '_', 2)::integer as kind_number,  -- 7 in week_7
    percentage,
    status,
    total_rows,
    started_at,
    completed_at,
    -- recorded by the load: the source files of this batch (`source`) and of the first batch (`first_source`), and the load's
    -- result
    metadata -> 'source' as source,
    (select first_load.metadata -> 'source' from public.data_loads as first_load order by first_load.id limit 1) as first_source,
    metadata #>> '{source,reason}' as reason,
    (metadata #>> '{load,rows}')::bigint as loaded_rows,
    (metadata #>> '{load,target_rows}')::bigint as target_rows,
    (metadata #>> '{load,held_out}')::bigint as held_out,
    metadata #>> '{load,error}' as load_error,
    -- the batch's place in the hash chain: its number, the ids of its last entries in products_history and in labels_history,
    -- and its seal (a digest that includes the seal of the batch before)
    (metadata #>> '{audit,number}')::bigint as chain_number,
    (metadata #>> '{audit,products_history_id}')::bigint as products_up_to,
    (metadata #>> '{audit,labels_history_id}')::bigint as labels_up_to,
    metadata #>> '{audit,seal}' as seal,
    -- recorded by the stages `snapshot` and `training`: the state and the result (a dataset or a model) of each stage
    metadata -> 'snapshot' as snapshot,
    metadata -> 'training' as training,
    coalesce(metadata #>> '{snapshot,state}', 'waiting') as snapshot_state,
    coalesce(metadata #>> '{training,state}', 'waiting') as training_state,
    metadata #> '{snapshot,result}' as dataset,
    metadata #> '{training,result}' as model,
    metadata #>> '{snapshot,result,run_id}' as dataset_run_id,
    metadata #>> '{training,result,run_id}' as model_run_id,
    (metadata #>> '{training,result,model_version}')::integer as model_version,
    metadata
from public.data_loads;

-- Return the number of the newest week whose rows were in `products` when the given batch was completed. For the batch week_7
-- this is 7. For a correction it is the last week that was completed before the correction.
create or replace function internal.week_of_batch(batch_id bigint) returns integer
language sql stable
as $$
    select max(week.kind_number)
    from public.batches as week
    join public.batches as batch on batch.id = batch_id and week.products_up_to <= batch.products_up_to
    where week.kind = 'week' and week.status = 'completed'
$$;
