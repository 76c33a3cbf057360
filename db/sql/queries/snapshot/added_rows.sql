-- Return the products that were added between two batches, with the same columns as batch_rows.sql returns. Use this query only
-- if no product or label was changed or deleted between the two batches. The query has_only_additions.sql checks this.
-- It also checks that each product has its label, so a full join returns the same rows as an inner join. PostgreSQL runs a full
-- join only as a hash join or a merge join. For an inner join it would choose a nested loop if its statistics were of an earlier,
-- much smaller history: it would then expect one new row, and compare each of 25,000 products with each of 25,000 labels.
select
    productid,
    case when split = 'train' then designation end as designation,
    case when split = 'train' then description end as description,
    imageid,
    case when split = 'train' then image_path end as image_path,
    prdtypecode,
    split = 'holdout' as held_out
from (
    select *
    from products_history
    where history_id > current_setting('rakuten_read.products_after')::bigint
        and history_id <= current_setting('rakuten_read.products_up_to')::bigint
) as product
full join (
    select productid, prdtypecode
    from labels_history
    where history_id > current_setting('rakuten_read.labels_after')::bigint
        and history_id <= current_setting('rakuten_read.labels_up_to')::bigint
) as label using (productid)
order by held_out, sample_rank nulls last, productid
