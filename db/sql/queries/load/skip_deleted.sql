-- Remove from `staging`, the rows that this week will insert, each product that an earlier attempt at this week inserted and that
-- somebody has deleted since: it stays deleted.
delete from staging
using products_history as deleted
where deleted.sample_rank = staging.sample_rank and deleted.operation_type = 'DELETE'
