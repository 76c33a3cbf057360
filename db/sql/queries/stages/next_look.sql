-- In how many seconds the next batch is due; and whether one is due already, so that another worker holds it.
select
    extract(epoch from min(ready_at) - clock_timestamp())::double precision as due_in_s,
    coalesce(bool_or(ready_at <= clock_timestamp()), false) as held_by_another
from pending_batches(%(stage)s)
