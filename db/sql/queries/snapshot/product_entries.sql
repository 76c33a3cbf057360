-- Return what decides which entry of products_history is a product's newest one: entries in a range of ids, without their texts.
-- `state` is null for a deleted product, true for a training product and false for a held-out one.
--
-- Spark's tasks read ranges of ids in any order, so the query has no ORDER BY. The bounds are settings of the session (see
-- batch_rows.sql). PostgreSQL scans a range of the primary key, whatever its statistics say.
select
    history_id,
    product_id,
    productid,
    case when operation_type <> 'DELETE' then split = 'train' end as state
from products_history
where history_id > current_setting('rakuten_read.after')::bigint
    and history_id <= current_setting('rakuten_read.up_to')::bigint
