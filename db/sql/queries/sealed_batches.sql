-- The seal of every completed batch, and when it was completed, as the tags of its runs have it.
select
    metadata #>> '{audit,seal}' as seal,
    to_char(completed_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as completed_at
from data_loads
where status = 'completed'
