-- Return the newest dataset that was built for an earlier batch than this one. `between` holds the history ids after which the
-- earlier batch ends and up to which this batch goes.
select
    earlier.batch_name,
    earlier.dataset ->> 'dataset_sha256' as sha256,
    (earlier.dataset ->> 'held_out_products')::bigint as held_out,
    jsonb_build_object(
        'products_after', earlier.products_up_to,
        'products_up_to', batch.products_up_to,
        'labels_after', earlier.labels_up_to,
        'labels_up_to', batch.labels_up_to
    ) as between
from batches as batch
join batches as earlier on earlier.chain_number < batch.chain_number
where batch.id = %(batch_id)s and earlier.status = 'completed' and earlier.dataset is not null
order by earlier.chain_number desc
limit 1
