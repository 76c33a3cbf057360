-- A row of the week that an earlier attempt has brought and somebody has deleted since.
select 1
from products_history
where operation_type = 'DELETE' and sample_rank >= %(first_rank)s and sample_rank < %(end_rank)s
limit 1
