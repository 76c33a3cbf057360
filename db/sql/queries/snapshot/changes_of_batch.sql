-- Return what a batch changed, by table, operation and login: the number of entries in the history, and how many products they
-- concern. An entry that was written outside of any batch belongs to the next batch.
with marks as (
    select
        id,
        products_up_to,
        labels_up_to,
        lag(products_up_to, 1, 0::bigint) over (order by chain_number) as products_after,
        lag(labels_up_to, 1, 0::bigint) over (order by chain_number) as labels_after
    from batches
    where status = 'completed'
),
entries as (
    select 'products' as table_name, operation_type, changed_by
    from products_history
    join marks on marks.id = %(batch_id)s and history_id > products_after and history_id <= products_up_to
    union all
    select 'labels', operation_type, changed_by
    from labels_history
    join marks on marks.id = %(batch_id)s and history_id > labels_after and history_id <= labels_up_to
)
select table_name, operation_type, changed_by, count(*) as entries
from entries
group by table_name, operation_type, changed_by
order by table_name desc, operation_type, changed_by
