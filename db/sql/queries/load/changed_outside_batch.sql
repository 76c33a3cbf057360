-- Training products as they are now whose text may have come otherwise than by this batch's own rows, since the last batch that
-- looked (and recorded `held_out`): changed outside any batch, by a batch that psql completed, or updated by this one.
-- None for a batch that is not running.
select productid, designation, description
from products
where split = 'train'
    and id in (
        select product_id
        from products_history
        where (load_batch_id is distinct from %(batch_id)s or operation_type = 'UPDATE')
            and history_id > (
                select coalesce(max(products_up_to), 0)
                from batches
                where status = 'completed' and held_out is not null
            )
    )
    and exists (select from data_loads where id = %(batch_id)s and status = 'running')
