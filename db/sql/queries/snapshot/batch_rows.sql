-- Return a batch's training rows and, after them, its held-out rows without texts. One query returns both, so that PostgreSQL
-- reads the history only once. The order leaves no ties, so a dataset that is built again from the batch has the same bytes.
-- ADBC cannot stream a statement that has bound parameters, so db/connect.py puts the parameter into a setting of the session.
-- `current_setting` is stable and not a sub-select, so the planner still inlines products_as_of_batch
-- (db/sql/schema/080_as_of.sql).
select
    productid,
    case when split = 'train' then designation end as designation,
    case when split = 'train' then description end as description,
    imageid,
    case when split = 'train' then image_path end as image_path,
    prdtypecode,
    split = 'holdout' as held_out
from products_as_of_batch(current_setting('rakuten_read.batch_id')::bigint)
where split = 'holdout' or prdtypecode is not null
order by held_out, sample_rank nulls last, productid
