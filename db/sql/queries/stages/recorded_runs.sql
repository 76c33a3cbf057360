-- Return one row for each completed batch: the state of one stage (snapshot or training), the MLflow run that PostgreSQL has
-- recorded for the stage, and for training also the model's version in the model registry.
select
    stage_ledger.batch_id,
    stage_ledger.batch_name,
    batches.seal,
    stage_ledger.state,
    stage_ledger.attempts,
    stage_ledger.run_id,
    case when stage_ledger.stage = 'training' then batches.model_version end as model_version
from stage_ledger
join batches on batches.id = stage_ledger.batch_id
where stage_ledger.stage = %(stage)s
order by stage_ledger.batch_id
