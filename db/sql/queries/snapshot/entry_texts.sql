-- Return the columns of a dataset, except the label, of the training products in a range of ids of products_history, in the
-- order of the ids (see product_entries.sql). The range may hold older entries of a product, too. Spark knows which ones are
-- the newest.
select
    history_id,
    productid,
    designation,
    description,
    imageid,
    image_path
from products_history
where history_id > current_setting('rakuten_read.after')::bigint
    and history_id <= current_setting('rakuten_read.up_to')::bigint
    and operation_type <> 'DELETE'
    and split = 'train'
order by history_id
