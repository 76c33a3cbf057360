-- Claim the next batch. The columns are named because a later schema may return more columns. PostgreSQL rejects this statement
-- on an older schema that lacks a column, before a batch is claimed.
select attempt, failures, wake_source, id, name, status, started_at, completed_at, total_rows, week, seal, source, metadata
from claim_next(%(stage)s, %(worker)s, %(wake)s, %(waited)s, %(notified)s)
