-- The batch of a run: the one that has it on record, or else the one that its tags name by id and moment.
select id
from batches
cross join lateral (select %(run_id)s in (dataset_run_id, model_run_id) as recorded) as run
where recorded or id::text = %(id)s and completed_at = %(completed_at)s
order by recorded desc nulls last
limit 1
