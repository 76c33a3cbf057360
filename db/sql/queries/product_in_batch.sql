-- Why a batch's dataset does not hold a product: its split and label as the batch left it, null where it was not there; whether
-- it had been there before, and the first batch to be completed since it came, null where it never came or none was.
select
    product.split,
    product.prdtypecode,
    coalesce(arrival.history_id <= (batch.metadata #>> '{audit,products_history_id}')::bigint, false) as was_there,
    (
        select batch_name
        from data_loads
        where status = 'completed' and (metadata #>> '{audit,products_history_id}')::bigint >= arrival.history_id
        order by (metadata #>> '{audit,products_history_id}')::bigint
        limit 1
    ) as came_with
from data_loads as batch
cross join (select min(history_id) as history_id from products_history where productid = %(productid)s) as arrival
left join (select * from products_as_of_batch(%(batch_id)s) where productid = %(productid)s) as product on true
where batch.id = %(batch_id)s
