-- Return the entries of labels_history in a range of ids, for Spark (see product_entries.sql). `prdtypecode` is null if the entry
-- deletes the label.
select
    history_id,
    label_id,
    productid,
    case when operation_type <> 'DELETE' then prdtypecode end as prdtypecode
from labels_history
where history_id > current_setting('rakuten_read.after')::bigint
    and history_id <= current_setting('rakuten_read.up_to')::bigint
