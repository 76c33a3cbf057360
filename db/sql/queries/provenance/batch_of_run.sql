-- Return the id of the batch that an MLflow run was made for. This is the batch that has recorded the run. If no batch has
-- recorded it, this is the batch whose id and completion time are in the tags of the run.
select id
from batches
cross join lateral (select %(run_id)s in (dataset_run_id, model_run_id) as recorded) as run
where recorded or id::text = %(id)s and completed_at = %(completed_at)s
order by recorded desc nulls last
limit 1
