-- The training products of a batch that was completed by other means than rakuten's, which hold out near-duplicates first.
select productid, designation, description
from products_as_of_batch(%(batch_id)s)
where split = 'train'
    and exists (
        select from batches where id = %(batch_id)s and held_out is null
    )
