-- What tells a batch from one of the same id in another database, and what the first load recorded of its source.
select
    to_char(completed_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as completed_at,
    (select metadata -> 'source' from data_loads order by id limit 1) as source
from data_loads
where id = %(batch_id)s
