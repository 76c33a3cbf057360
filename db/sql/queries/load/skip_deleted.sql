-- The table `staging` holds the rows that the load of this week will insert into `products`. If an earlier attempt at this load
-- has inserted a product and somebody has deleted it since, remove it from `staging`, so that it stays deleted.
delete from staging
using products_history as deleted
where deleted.sample_rank = staging.sample_rank and deleted.operation_type = 'DELETE'
