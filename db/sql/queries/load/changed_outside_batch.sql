-- Return the training products whose text was not necessarily checked against the holdout: the running batch (%(batch_id)s) did
-- not insert this text. Another batch, or somebody outside any batch, changed the product, or the running batch updated it.
-- Only changes since the last completed batch that made this check count; such a batch has recorded `held_out`. The texts are
-- those of now; the caller compares them with the texts of the held-out products. Return no row if the batch is not running.
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
