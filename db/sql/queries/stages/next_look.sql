-- Return two columns for a stage (snapshot or training). `due_in_s` is the number of seconds until a waiting batch may be
-- claimed. `held_by_another` is true if a batch may be claimed now. A worker runs this query only after it could not claim any
-- batch, so another worker holds that batch.
select
    extract(epoch from min(ready_at) - clock_timestamp())::double precision as due_in_s,
    coalesce(bool_or(ready_at <= clock_timestamp()), false) as held_by_another
from pending_batches(%(stage)s)
