-- Return a batch's training rows, then its held-out rows. The texts of the held-out rows are null, because nothing needs them.
-- One query returns both kinds of rows, so that PostgreSQL reads the history only once. ORDER BY puts the rows into exactly one
-- possible order, so a dataset that is built again from the batch has the same bytes.
--
-- The batch's id is not a bound parameter, because ADBC cannot stream a statement with bound parameters. Instead, db/connect.py
-- writes the id into a setting of the session, `rakuten_read.batch_id`. Do not read this setting in a sub-select: the planner
-- cannot inline products_as_of_batch (db/sql/schema/080_as_of.sql) if the argument of this function is a sub-select.
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
