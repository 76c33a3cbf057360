-- Return all training products of a batch if the batch was completed without the holdout check, and no row otherwise. `rakuten
-- load` and `rakuten correct` make this check: they move products whose texts nearly equal those of held-out products into the
-- holdout, and record how many (`batches.held_out`). Somebody who completes a batch in psql does not, so `held_out` is null.
select productid, designation, description
from products_as_of_batch(%(batch_id)s)
where split = 'train'
    and exists (
        select from batches where id = %(batch_id)s and held_out is null
    )
