-- The training products of a batch that was completed by other means than rakuten's, which hold out near-duplicates first.
select productid, designation, description
from products_as_of_batch(%(batch_id)s)
where split = 'train'
    and exists (
        select from data_loads where id = %(batch_id)s and metadata #> '{load,held_out}' is null
    )
