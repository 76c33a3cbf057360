-- Return what is needed to explain why the dataset of a batch does not contain a certain product:
-- * split and label of the product when the batch was completed, null if the product did not exist then;
-- * whether the product had been inserted before the batch was completed (it may have been deleted again);
-- * the first batch that was completed after the product was inserted, null if there is none.
select
    product.split,
    product.prdtypecode,
    coalesce(arrival.history_id <= batch.products_up_to, false) as inserted_by_then,
    (
        select batch_name
        from batches
        where status = 'completed' and products_up_to >= arrival.history_id
        order by chain_number
        limit 1
    ) as inserted_with
from batches as batch
cross join (select min(history_id) as history_id from products_history where productid = %(productid)s) as arrival
left join (select * from products_as_of_batch(%(batch_id)s) where productid = %(productid)s) as product on true
where batch.id = %(batch_id)s
