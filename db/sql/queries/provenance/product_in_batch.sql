-- Why a batch's dataset does not hold a product: its split and label as the batch left it, null where it was not there; whether
-- it had been there before, and the first batch to be completed since it came, null where it never came or none was.
select
    product.split,
    product.prdtypecode,
    coalesce(arrival.history_id <= batch.products_up_to, false) as was_there,
    (
        select batch_name
        from batches
        where status = 'completed' and products_up_to >= arrival.history_id
        order by chain_number
        limit 1
    ) as came_with
from batches as batch
cross join (select min(history_id) as history_id from products_history where productid = %(productid)s) as arrival
left join (select * from products_as_of_batch(%(batch_id)s) where productid = %(productid)s) as product on true
where batch.id = %(batch_id)s
