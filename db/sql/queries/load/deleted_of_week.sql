-- Return a row if an earlier attempt loaded a product of this week and somebody has deleted that product since.
select 1
from products_history
where operation_type = 'DELETE' and sample_rank >= %(first_rank)s and sample_rank < %(end_rank)s
limit 1
