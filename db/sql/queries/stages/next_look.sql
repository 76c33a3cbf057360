-- Return the number of seconds until the stage may process the next waiting batch, and whether it may process one already.
-- A worker runs this query only after it could not claim a batch. So a batch that may be processed already is held by another
-- worker.
select
    extract(epoch from min(ready_at) - clock_timestamp())::double precision as due_in_s,
    coalesce(bool_or(ready_at <= clock_timestamp()), false) as held_by_another
from pending_batches(%(stage)s)
