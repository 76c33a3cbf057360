-- Return the training products that the caller must check: because of their present text, they may belong to the holdout now.
-- These are the products that somebody has inserted or changed outside the running batch (%(batch_id)s), and the products that
-- the running batch has updated. A completed batch with a non-null `held_out` has made this check, so changes up to the last
-- such batch are left out. Return no row if the batch is not running.
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
