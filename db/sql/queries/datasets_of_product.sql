-- The batches whose datasets hold a product, in the order of the chain, with the product as they saw it: of split 'train' and
-- labelled. The same as asking products_as_of_batch() of each batch, in one look at the product's own entries.
with product_entries as materialized (
    select * from products_history
    where product_id in (select product_id from products_history where productid = %(productid)s)
),
label_entries as materialized (
    select * from labels_history
    where label_id in (select label_id from labels_history where productid = %(productid)s)
)
select
    data_loads.id as batch_id,
    data_loads.batch_name,
    product.designation,
    label.prdtypecode
from data_loads
cross join lateral (
    select distinct on (product_id) * from product_entries
    where history_id <= (metadata #>> '{audit,products_history_id}')::bigint
    order by product_id, history_id desc
) as product
cross join lateral (
    select distinct on (label_id) * from label_entries
    where history_id <= (metadata #>> '{audit,labels_history_id}')::bigint
    order by label_id, history_id desc
) as label
where data_loads.status = 'completed'
    and product.operation_type <> 'DELETE'
    and product.productid = %(productid)s
    and product.split = 'train'
    and label.operation_type <> 'DELETE'
    and label.productid = %(productid)s
order by (metadata #>> '{audit,products_history_id}')::bigint, (metadata #>> '{audit,labels_history_id}')::bigint, completed_at
