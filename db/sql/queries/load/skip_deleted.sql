-- Rows that an earlier attempt at this week has brought, and that somebody has deleted since, stay deleted.
delete from staging
using products_history as deleted
where deleted.sample_rank = staging.sample_rank and deleted.operation_type = 'DELETE'
