-- Return the id of the batch whose dataset or model was built by an MLflow run. This batch has the run's id in
-- dataset_run_id or model_run_id. If no batch has the run's id, return the id of the batch whose seal is in the run's tags.
select id
from batches
cross join lateral (select %(run_id)s in (dataset_run_id, model_run_id) as recorded) as run
where recorded or seal = %(seal)s
order by recorded desc nulls last
limit 1
