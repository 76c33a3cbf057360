-- Claim the next batch for a stage (snapshot or training). The statement lists the columns of claim_next(), so that it still
-- works if a later schema returns more columns. If an older schema lacks one of the columns, PostgreSQL rejects the
-- statement before it claims a batch.
select
    attempt, failures, wake_source,
    id, name, status, started_at, completed_at, total_rows, week, chain_number, seal, source, metadata
from claim_next(%(stage)s, %(worker)s, %(wake)s, %(waited)s, %(notified)s)
