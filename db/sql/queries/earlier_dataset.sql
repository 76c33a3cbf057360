-- The newest batch before this one whose dataset is on record, and the entries of the history that came between the two.
-- Datasets that were recorded without `held_out_products` are cut into other row groups.
select
    earlier.batch_name,
    earlier.metadata #>> '{snapshot,result,dataset_sha256}' as sha256,
    (earlier.metadata #>> '{snapshot,result,held_out_products}')::bigint as held_out,
    jsonb_build_object(
        'products_after', earlier.metadata #> '{audit,products_history_id}',
        'products_up_to', batch.metadata #> '{audit,products_history_id}',
        'labels_after', earlier.metadata #> '{audit,labels_history_id}',
        'labels_up_to', batch.metadata #> '{audit,labels_history_id}'
    ) as between
from data_loads as batch
join data_loads as earlier
    on (earlier.metadata #>> '{audit,number}')::bigint < (batch.metadata #>> '{audit,number}')::bigint
where batch.id = %(batch_id)s
    and earlier.status = 'completed'
    and earlier.metadata #>> '{snapshot,result,held_out_products}' is not null
order by (earlier.metadata #>> '{audit,number}')::bigint desc
limit 1
