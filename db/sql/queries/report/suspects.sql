-- How many training products each model suspects to have a wrong label.
select
    chain_number,
    batch_name,
    (model #>> '{suspects,count}')::integer as suspects
from batches
where model #>> '{suspects,count}' is not null
order by chain_number
