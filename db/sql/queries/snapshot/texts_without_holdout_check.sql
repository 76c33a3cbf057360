-- Return the training products of a batch if it was completed without the holdout check, for instance with psql. `rakuten load`
-- and `rakuten correct` do this check: they move near-duplicates of held-out products into the holdout and record `held_out`.
-- Return no row if the batch has recorded it.
select productid, designation, description
from products_as_of_batch(%(batch_id)s)
where split = 'train'
    and exists (
        select from batches where id = %(batch_id)s and held_out is null
    )
