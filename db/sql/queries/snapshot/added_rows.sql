-- Return the products that were added between two batches, with the same columns as batch_rows.sql returns. Use this query only
-- if no product or label was changed or deleted between the two batches. The query has_only_additions.sql checks this.
select
    productid,
    case when split = 'train' then designation end as designation,
    case when split = 'train' then description end as description,
    imageid,
    case when split = 'train' then image_path end as image_path,
    prdtypecode,
    split = 'holdout' as held_out
from products_history as product
join labels_history as label using (productid)
where product.history_id > current_setting('rakuten_read.products_after')::bigint
    and product.history_id <= current_setting('rakuten_read.products_up_to')::bigint
    and label.history_id > current_setting('rakuten_read.labels_after')::bigint
    and label.history_id <= current_setting('rakuten_read.labels_up_to')::bigint
order by held_out, sample_rank nulls last, productid
