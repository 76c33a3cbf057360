-- What PostgreSQL knows of one stage's runs, a line for each completed batch.
select
    stage_ledger.batch_id,
    stage_ledger.batch_name,
    to_char(data_loads.completed_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as completed_at,
    stage_ledger.state,
    stage_ledger.attempts,
    stage_ledger.run_id,
    (data_loads.metadata #>> array[stage_ledger.stage, 'result', 'model_version'])::integer as model_version
from stage_ledger
join data_loads on data_loads.id = stage_ledger.batch_id
where stage_ledger.stage = %(stage)s
order by stage_ledger.batch_id
