-- Return the oldest batch that must be completed before a correction may start: a running batch, or a
-- failed batch whose load has already written rows. Return no row if there is no such batch.
select batch_name, status
from data_loads
where status = 'running'
    or (status = 'failed' and exists (select from products_history where load_batch_id = data_loads.id))
order by id
limit 1
