-- Return how many bytes each place of the pipeline's data takes and gains a week, as the views storage and storage_growth say.
select kind, object, storage.bytes, index_bytes, bytes_per_week, is_part_of_database, runs_without_size
from storage
left join storage_growth using (kind, object)
