-- A batch that nobody may write past: one that is being loaded, or one that failed when its rows were there already.
select batch_name, status
from data_loads
where status = 'running'
    or (status = 'failed' and exists (select from products_history where load_batch_id = data_loads.id))
order by id
limit 1
