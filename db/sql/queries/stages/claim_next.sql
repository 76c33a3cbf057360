-- Claim the next batch. The statement lists the columns, so that it still works with a later schema that returns more of them.
-- If an older schema lacks one of the columns, PostgreSQL rejects the statement before it claims a batch.
select attempt, failures, wake_source, id, name, status, started_at, completed_at, total_rows, week, seal, source, metadata
from claim_next(%(stage)s, %(worker)s, %(wake)s, %(waited)s, %(notified)s)
