-- Return every completed batch in the order of the hash chain, with the results of the two stages (snapshot and training).
-- `loaded_by` is the login that loaded the batch. `changes_outside` is the number of changes that belong to no batch and were
-- made between the end of the previous batch and the end of this batch.
with sealed as (
    select * from batches where status = 'completed'
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
    case sealed.kind when 'week' then sealed.loaded_rows end as new_rows,
    case sealed.kind when 'correction' then sealed.loaded_rows end as corrections,
    sealed.reason,
    first_entry.changed_by as loaded_by,
    first_entry.application,
    sealed.seal,
    sealed.source,
    (
        select count(*)
        from outside
        where case table_name
            when 'products' then history_id > coalesce(before.products_up_to, 0) and history_id <= sealed.products_up_to
            else history_id > coalesce(before.labels_up_to, 0) and history_id <= sealed.labels_up_to
        end
    ) as changes_outside,
    sealed.snapshot_state,
    sealed.snapshot ->> 'error' as snapshot_error,
    sealed.training_state,
    sealed.training ->> 'error' as training_error,
    sealed.dataset as snapshot_result,
    sealed.model as training_result
from sealed
left join sealed as before on before.chain_number = sealed.chain_number - 1
left join lateral (
    (
        select changed_by, application
        from products_history
        where history_id > coalesce(before.products_up_to, 0)
            and history_id <= sealed.products_up_to
            and load_batch_id = sealed.id
        order by history_id
        limit 1
    )
    union all
    (
        select changed_by, application
        from labels_history
        where history_id > coalesce(before.labels_up_to, 0)
            and history_id <= sealed.labels_up_to
            and load_batch_id = sealed.id
        order by history_id
        limit 1
    )
    limit 1
) as first_entry on true
order by sealed.chain_number
