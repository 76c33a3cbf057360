-- Return the training products whose current text may not have been compared with the texts of the held-out products. These are
-- the products that another batch, or somebody outside any batch, has inserted or changed, and the products that the running
-- batch (%(batch_id)s) has updated. Older changes are left out: those before the end of the last completed batch that made the
-- comparison (its `held_out` is not null). The caller makes the comparison. Return no row if the batch is not running.
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
