-- Return one row about the next batch of corrections. Return no row until the first week is complete. `name` is the name of
-- this batch (correction_1, correction_2, ...). `percentage` is the share of the training rows that the completed weeks have
-- loaded. `source` is what the first load recorded about the source files.
select
    'correction_' || 1 + coalesce(max(kind_number) filter (where kind = 'correction'), 0) as name,
    max(percentage) filter (where kind = 'week') as percentage,
    (select source from batches order by id limit 1) as source
from batches
where status = 'completed'
having bool_or(kind = 'week')
