-- Return the name of the next batch of corrections (correction_1, correction_2, ...), the percentage of the training rows that
-- the last completed week reached, and what the first load recorded about the source files. Return no row until the first week is
-- complete.
select
    'correction_' || 1 + coalesce(max(kind_number) filter (where kind = 'correction'), 0) as name,
    max(percentage) filter (where kind = 'week') as percentage,
    (select source from batches order by id limit 1) as source
from batches
where status = 'completed'
having bool_or(kind = 'week')
