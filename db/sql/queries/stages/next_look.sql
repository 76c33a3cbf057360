-- Return two columns for a stage (snapshot or training). `due_in_s` is the number of seconds until the first waiting batch is
-- ready for a claim. `held_by_another` is true if a batch is ready now: a worker runs this query only after it could not claim
-- any batch, so another worker holds the ready batch.
select
    extract(epoch from min(ready_at) - clock_timestamp())::double precision as due_in_s,
    coalesce(bool_or(ready_at <= clock_timestamp()), false) as held_by_another
from pending_batches(%(stage)s)
