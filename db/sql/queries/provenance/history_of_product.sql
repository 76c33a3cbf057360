-- Return every history entry of a product and of its label, with the first batch that includes the entry. A change that
-- was made outside any batch belongs to the batch that is completed next. The product is identified by its `id`, which never
-- changes. So if its productid was corrected, the result also has the entries from before the correction. Several products may
-- have had the same productid at different times. The column `product_id` shows which product an entry belongs to.
with entries as (
    select
        history_id, 'products' as table_name, operation_type, operation_date, load_batch_id, changed_by, application,
        product_id, productid, designation, description, split, null::integer as prdtypecode
    from products_history
    where product_id in (select product_id from products_history where productid = %(productid)s)
    union all
    select
        history_id, 'labels', operation_type, operation_date, load_batch_id, changed_by, application,
        null, productid, null, null, null, prdtypecode
    from labels_history
    where label_id in (select label_id from labels_history where productid = %(productid)s)
)
select
    table_name,
    operation_type,
    operation_date,
    load_batch_id is null as outside_any_batch,
    changed_by,
    application,
    product_id,
    productid,
    designation,
    description,
    split,
    prdtypecode,
    (
        select batch_name
        from batches
        where status = 'completed'
            and case table_name when 'products' then products_up_to else labels_up_to end >= entries.history_id
        order by chain_number
        limit 1
    ) as batch_name
from entries
order by operation_date, history_id
