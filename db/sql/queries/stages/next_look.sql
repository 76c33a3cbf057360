-- Return the number of seconds until the next batch is due, and whether a batch is due already. A worker runs this query only
-- after it could not claim a batch. So if a batch is due already, another worker holds it.
select
    extract(epoch from min(ready_at) - clock_timestamp())::double precision as due_in_s,
    coalesce(bool_or(ready_at <= clock_timestamp()), false) as held_by_another
from pending_batches(%(stage)s)
