-- The seconds that each step took for each batch, in the latest attempt. PostgreSQL's clock gives all times.
select
    chain_number,
    batches.batch_name,
    steps.step,
    steps.seconds
from batches
inner join pipeline_status on pipeline_status.batch_id = batches.id
cross join lateral (
    values
        (1, 'load', extract(epoch from batches.completed_at - batches.started_at)::double precision),
        (2, 'wake for the dataset', commit_to_wake_s),
        (3, 'build the dataset', snapshot_claim_to_done_s),
        (4, 'wake for the model', dataset_to_wake_s),
        (5, 'train the model', training_claim_to_done_s)
) as steps (number, step, seconds)
where batches.status = 'completed'
order by chain_number, steps.number
