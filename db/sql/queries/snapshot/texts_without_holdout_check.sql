-- Return all training products of a batch that was completed without the holdout check, for example with psql. Return no row if
-- the check was made: then `batches.held_out` is not null. `rakuten load` and `rakuten correct` make the check: they move
-- products whose texts nearly equal those of held-out products into the holdout, and record `held_out`.
select productid, designation, description
from products_as_of_batch(%(batch_id)s)
where split = 'train'
    and exists (
        select from batches where id = %(batch_id)s and held_out is null
    )
