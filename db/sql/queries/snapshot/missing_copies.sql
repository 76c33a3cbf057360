-- Return the finished datasets whose copy in the local folder could not be written: name, MLflow run and SHA-256 of the file.
select snapshot #>> '{result,dataset}', dataset_run_id, snapshot #>> '{result,dataset_sha256}'
from batches
where snapshot_state = 'finished' and snapshot -> 'result' ? 'copy_error'
order by id
