-- Return the last history ids of a completed batch: what the batch holds is decided by the entries up to these ids, which never
-- change.
select coalesce(products_up_to, 0), coalesce(labels_up_to, 0)
from batches
where id = %(batch_id)s and status = 'completed'
