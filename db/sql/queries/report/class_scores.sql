-- The F1 of each class on the holdout, for the model of each batch.
select
    chain_number,
    batch_name,
    entry.key as prdtypecode,
    coalesce(categories.name, 'unknown') as category,
    entry.value::double precision as f1
from batches
cross join lateral jsonb_each_text(model -> 'f1_by_class') as entry
left join categories on categories.prdtypecode::text = entry.key
where jsonb_typeof(model -> 'f1_by_class') = 'object'
order by chain_number, length(entry.key), entry.key
