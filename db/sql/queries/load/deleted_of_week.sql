-- Return one row if an earlier attempt to load this week loaded a product that was deleted afterwards, and no row otherwise.
-- The products of a week have the sample_rank values from `first_rank` to `end_rank` - 1.
select 1
from products_history
where operation_type = 'DELETE' and sample_rank >= %(first_rank)s and sample_rank < %(end_rank)s
limit 1
