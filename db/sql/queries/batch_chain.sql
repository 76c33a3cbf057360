-- Every completed batch in the order of the chain: what it brought, who loaded it, and what each stage made of it.
with sealed as (
    select
        data_loads.*,
        (metadata #>> '{audit,number}')::bigint as number,
        (metadata #>> '{audit,products_history_id}')::bigint as products_up_to,
        (metadata #>> '{audit,labels_history_id}')::bigint as labels_up_to
    from data_loads
    where status = 'completed'
),
outside as materialized (
    select 'products' as table_name, history_id from products_history where load_batch_id is null
    union all
    select 'labels', history_id from labels_history where load_batch_id is null
)
select
    sealed.id as batch_id,
    sealed.batch_name,
    sealed.completed_at,
    sealed.total_rows,
    case when sealed.batch_name ~ '^week_' then (sealed.metadata #>> '{load,rows}')::bigint end as new_rows,
    case when sealed.batch_name ~ '^correction_' then (sealed.metadata #>> '{load,rows}')::bigint end as corrections,
    sealed.metadata #>> '{source,reason}' as reason,
    first_entry.changed_by as loaded_by,
    first_entry.application,
    sealed.metadata #>> '{audit,seal}' as seal,
    sealed.metadata -> 'source' as source,
    (
        select count(*)
        from outside
        where (table_name = 'products' and history_id > coalesce(before.products_up_to, 0) and history_id <= sealed.products_up_to)
            or (table_name = 'labels' and history_id > coalesce(before.labels_up_to, 0) and history_id <= sealed.labels_up_to)
    ) as changes_outside,
    snapshot_state,
    snapshot_error,
    training_state,
    training_error,
    sealed.metadata #> '{snapshot,result}' as snapshot_result,
    sealed.metadata #> '{training,result}' as training_result
from sealed
join pipeline_status on pipeline_status.batch_id = sealed.id
left join sealed as before on before.number = sealed.number - 1
left join lateral (
    (
        select changed_by, application
        from products_history
        where history_id > coalesce(before.products_up_to, 0) and history_id <= sealed.products_up_to and load_batch_id = sealed.id
        order by history_id
        limit 1
    )
    union all
    (
        select changed_by, application
        from labels_history
        where history_id > coalesce(before.labels_up_to, 0) and history_id <= sealed.labels_up_to and load_batch_id = sealed.id
        order by history_id
        limit 1
    )
    limit 1
) as first_entry on true
order by sealed.number
