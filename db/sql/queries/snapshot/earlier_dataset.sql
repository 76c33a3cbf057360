-- Return the newest earlier batch that has a dataset, with facts about this dataset. The column `between` holds four history
-- ids. They mark the history entries of all changes between the earlier batch and the given batch:
-- * in products_history: products_after < history_id <= products_up_to
-- * in labels_history: labels_after < history_id <= labels_up_to
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
