-- Return all training products of a batch if the batch was completed without the holdout check, and no row otherwise. Before
-- `rakuten load` and `rakuten correct` complete a batch, they make this check: they move products whose texts nearly equal
-- those of held-out products into the holdout, and record the number of these products in `batches.held_out`. If somebody
-- completes a batch in psql instead, `held_out` is null.
select productid, designation, description
from products_as_of_batch(%(batch_id)s)
where split = 'train'
    and exists (
        select from batches where id = %(batch_id)s and held_out is null
    )
