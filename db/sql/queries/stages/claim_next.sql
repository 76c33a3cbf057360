-- The columns are named: a later schema may return more, and an older one is refused before anything is claimed.
select attempt, failures, wake_source, id, name, status, started_at, completed_at, total_rows, week, seal, source, metadata
from claim_next(%(stage)s, %(worker)s, %(wake)s, %(waited)s, %(notified)s)
