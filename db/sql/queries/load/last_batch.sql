-- Return the last completed week, and `source`: what the first load recorded about the source files. There are three cases:
-- * A week is complete: return the week and `source`.
-- * No week is complete, but an unfinished first load has left rows in `products`: return null for the week, and the `source` of
--   that load, because the next attempt must load the same rows.
-- * `products` has no rows from the source files: return no row.
select last_week.batch_name, last_week.percentage, first_load.source
from (select source from batches order by id limit 1) as first_load
left join (
    select batch_name, percentage from batches
    where status = 'completed' and kind = 'week' order by percentage desc, id desc limit 1
) as last_week on true
where last_week.batch_name is not null or exists (select from products where sample_rank is not null)
