-- Return the folder and the manifest's SHA-256 of the newest earlier dataset that Spark has written.
select earlier.dataset ->> 'dataset_uri', earlier.dataset ->> 'dataset_sha256'
from batches as batch
join batches as earlier on earlier.chain_number < batch.chain_number
where batch.id = %(batch_id)s and earlier.status = 'completed' and earlier.dataset ->> 'dataset_uri' is not null
order by earlier.chain_number desc
limit 1
