-- A batch as its OpenLineage events describe it.
select
    id,
    batch_name as name,
    started_at,
    completed_at,
    status,
    total_rows,
    metadata,
    current_setting('server_version') as server_version
from data_loads
where id = %(batch_id)s
