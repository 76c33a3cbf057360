-- What tells a batch from one of the same id in another database, what the first load recorded of its source, the last week
-- whose rows it holds, and its seal.
select
    to_char(completed_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as completed_at,
    (select metadata -> 'source' from data_loads order by id limit 1) as source,
    (
        select max(substr(week.batch_name, 6)::integer)
        from data_loads as week
        where week.status = 'completed' and week.batch_name ~ '^week_[0-9]+$' and (week.metadata #>> '{audit,products_history_id}')::bigint <= (data_loads.metadata #>> '{audit,products_history_id}')::bigint
    ) as week,
    metadata #>> '{audit,seal}' as seal
from data_loads
where id = %(batch_id)s
