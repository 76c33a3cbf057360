-- Return one row for each record of a stage (snapshot, training) that is finished or has a result: whether the record still has
-- the digest that the stage wrote with it. A record without a result has no digest yet, or a digest of an earlier state.
select batch_name, stage, record = with_digest(record) as is_unchanged
from batches
cross join lateral (values ('snapshot', snapshot), ('training', training)) as records (stage, record)
where record ? 'result' or record ->> 'state' = 'finished'
order by id, stage
