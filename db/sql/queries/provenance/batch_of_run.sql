-- Return the batch of an MLflow run: the batch that has recorded the run, or else the batch that the run's tags name by its id
-- and the time of its completion.
select id
from batches
cross join lateral (select %(run_id)s in (dataset_run_id, model_run_id) as recorded) as run
where recorded or id::text = %(id)s and completed_at = %(completed_at)s
order by recorded desc nulls last
limit 1
