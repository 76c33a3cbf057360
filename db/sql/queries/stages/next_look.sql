-- For a stage (snapshot or training), return the seconds until a waiting batch may be processed (`due_in_s`), and whether one may
-- be processed already. A worker runs this query only after it could not claim any batch. So if one may be processed already,
-- another worker holds it (`held_by_another`).
select
    extract(epoch from min(ready_at) - clock_timestamp())::double precision as due_in_s,
    coalesce(bool_or(ready_at <= clock_timestamp()), false) as held_by_another
from pending_batches(%(stage)s)
