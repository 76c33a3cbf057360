-- Return one row for each batch and each stage that has finished the batch. `result` is what this stage recorded: a dataset
-- (stage `snapshot`) or a model (stage `training`). `dataset` is the batch's dataset in both cases. `seal` is the batch's digest
-- in the hash chain; it includes the seal of the batch before.
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
