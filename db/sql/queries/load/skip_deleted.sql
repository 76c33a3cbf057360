-- Skip the products that an earlier attempt at this week inserted and that somebody has deleted since: they stay deleted.
delete from staging
using products_history as deleted
where deleted.sample_rank = staging.sample_rank and deleted.operation_type = 'DELETE'
