-- The share of each class in the training products of each batch, before the dataset is balanced.
select
    chain_number,
    distribution.batch_name,
    prdtypecode,
    category,
    products,
    share
from class_distribution as distribution
inner join batches on batches.id = distribution.batch_id
order by chain_number, prdtypecode
