-- Return the number of seconds until the next batch is due, and whether a batch is due already. A worker runs this query when
-- it could claim no batch, so another worker holds any batch that is due.
select
    extract(epoch from min(ready_at) - clock_timestamp())::double precision as due_in_s,
    coalesce(bool_or(ready_at <= clock_timestamp()), false) as held_by_another
from pending_batches(%(stage)s)
