-- Return what PostgreSQL has recorded about the MLflow runs of one stage: one row for each completed batch.
select
    stage_ledger.batch_id,
    stage_ledger.batch_name,
    batches.completed_at,
    stage_ledger.state,
    stage_ledger.attempts,
    stage_ledger.run_id,
    case when stage_ledger.stage = 'training' then batches.model_version end as model_version
from stage_ledger
join batches on batches.id = stage_ledger.batch_id
where stage_ledger.stage = %(stage)s
order by stage_ledger.batch_id
