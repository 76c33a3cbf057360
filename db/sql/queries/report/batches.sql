-- The completed batches in the order of the hash chain, with the rows that each holds. A batch is a week, or the corrections of
-- one file.
select
    chain_number,
    batch_name,
    kind,
    kind_number,
    percentage,
    loaded_rows,
    total_rows,
    (first_source ->> 'total_rows')::bigint as file_rows,
    completed_at,
    reason
from batches
where status = 'completed'
order by chain_number
