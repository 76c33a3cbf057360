-- Return the id of the batch whose dataset or model an MLflow run built. This is the batch that has the run's id in
-- dataset_run_id or model_run_id. If there is no such batch, it is the batch whose id and completion time are in the
-- run's tags.
select id
from batches
cross join lateral (select %(run_id)s in (dataset_run_id, model_run_id) as recorded) as run
where recorded or id::text = %(id)s and completed_at = %(completed_at)s
order by recorded desc nulls last
limit 1
