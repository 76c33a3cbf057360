-- Return one batch, with one column for each field of the Python class shared.batch.Batch.
select
    id,
    batch_name as name,
    status,
    started_at,
    completed_at,
    total_rows,
    week_of_batch(id) as week,
    chain_number,
    seal,
    first_source as source,
    metadata
from batches
where id = %(batch_id)s
