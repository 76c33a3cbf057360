-- Return a row if a product of one week (a range of sample_rank) was loaded by an earlier attempt and deleted afterwards.
select 1
from products_history
where operation_type = 'DELETE' and sample_rank >= %(first_rank)s and sample_rank < %(end_rank)s
limit 1
