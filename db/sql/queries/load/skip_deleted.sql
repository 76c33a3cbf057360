-- Remove from the table `staging` each product that an earlier attempt at this load has inserted and that somebody has deleted
-- since. `staging` holds the rows that the load of this week inserts into `products`, so the load would bring the deleted
-- product back.
delete from staging
using products_history as deleted
where deleted.sample_rank = staging.sample_rank and deleted.operation_type = 'DELETE'
