-- The name of the next correction, the percentage that the last completed week has reached, and what the first load recorded of
-- its source; nothing before the first week is complete.
select
    (
        select format('correction_%s', coalesce(max(substr(batch_name, 12)::integer), 0) + 1)
        from data_loads
        where status = 'completed' and batch_name ~ '^correction_[0-9]+$'
    ) as name,
    (select max(percentage) from data_loads where status = 'completed' and batch_name ~ '^week_[0-9]+$') as percentage,
    metadata -> 'source' as source
from data_loads
where exists (select from data_loads where status = 'completed' and batch_name ~ '^week_[0-9]+$')
order by id
limit 1
