-- What each finished stage has recorded, with its batch's seal; for a model also what is recorded of its dataset.
select
    stage_ledger.batch_id,
    stage_ledger.batch_name,
    stage_ledger.stage,
    metadata #>> '{audit,seal}' as seal,
    metadata #> array[stage_ledger.stage, 'result'] as result,
    metadata #> '{snapshot,result}' as dataset
from stage_ledger
join data_loads on data_loads.id = stage_ledger.batch_id
where stage_ledger.state = 'finished'
order by stage_ledger.batch_id, stage_ledger.stage
