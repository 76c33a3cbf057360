-- Return the batches whose dataset contains a given product, in the order of the hash chain. Each row shows the product as it
-- was when the batch was completed. A dataset contains the products that have split 'train' and a label. Calling
-- products_as_of_batch() for each batch would give the same result, but would read the history of all products each time. This
-- query reads only the history of the given product, once. The query identifies the product by `products.id`, because the
-- productid can change. So the result includes batches in which the product had another productid.
with product_entries as materialized (
    select * from products_history
    where product_id in (select product_id from products_history where productid = %(productid)s)
),
label_entries as materialized (
    select * from labels_history
    where label_id in (select label_id from labels_history where productid in (select productid from product_entries))
)
select
    batches.id as batch_id,
    batches.batch_name,
    product.product_id,
    product.productid,
    product.designation,
    label.prdtypecode
from batches
cross join lateral (
    select distinct on (product_id) * from product_entries
    where history_id <= products_up_to
    order by product_id, history_id desc
) as product
cross join lateral (
    select distinct on (label_id) * from label_entries
    where history_id <= labels_up_to
    order by label_id, history_id desc
) as label
where batches.status = 'completed'
    and product.operation_type <> 'DELETE'
    and product.split = 'train'
    and label.operation_type <> 'DELETE'
    and label.productid = product.productid
order by batches.chain_number
