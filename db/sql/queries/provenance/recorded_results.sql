-- Return one row for each batch and each stage (snapshot or training) that has finished it: the result that the stage recorded,
-- the dataset that the snapshot stage recorded, and the batch's seal (a digest that includes the seal of the batch before).
select
    stage_ledger.batch_id,
    stage_ledger.batch_name,
    stage_ledger.stage,
    batches.seal,
    case stage_ledger.stage when 'snapshot' then batches.dataset else batches.model end as result,
    batches.dataset
from stage_ledger
join batches on batches.id = stage_ledger.batch_id
where stage_ledger.state = 'finished'
order by stage_ledger.batch_id, stage_ledger.stage
