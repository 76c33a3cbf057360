-- The furthest completed batch, and what the first load recorded of the source files. A first load that is not complete
-- counts as soon as it has left rows: whoever takes it up again is to send the same ones.
select furthest.batch_name, furthest.percentage, first_load.metadata -> 'source'
from (select metadata from data_loads order by id limit 1) as first_load
left join (
    select batch_name, percentage from data_loads
    where status = 'completed' and batch_name ~ '^week_[0-9]+$' order by percentage desc, id desc limit 1
) as furthest on true
where furthest.batch_name is not null or exists (select from products where sample_rank is not null)
