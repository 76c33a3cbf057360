-- Return the training products, as they are now, whose text may not be the text that this batch inserted. The caller compares
-- these texts with the held-out texts. Such a product was changed outside any batch, by a batch that somebody completed with
-- psql, or by an update of this batch. Only changes after the last batch with a holdout check (it recorded `held_out`) count.
-- Return no row if this batch is not running.
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
