-- Training products that were changed outside any batch since the last one was completed, as they are now; none for a batch
-- that is not running.
select productid, designation, description
from products
where split = 'train'
    and id in (
        select product_id
        from products_history
        where load_batch_id is null
            and history_id > (
                select coalesce(max((metadata #>> '{audit,products_history_id}')::bigint), 0)
                from data_loads
                where status = 'completed'
            )
    )
    and exists (select from data_loads where id = %(batch_id)s and status = 'running')
