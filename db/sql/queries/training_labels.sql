-- The narrow half of a snapshot: which products, of which class. Same rows and order as copy_training_rows.
select productid, prdtypecode
from products_as_of_batch(%(batch_id)s)
where split = 'train' and prdtypecode is not null
order by sample_rank nulls last, productid
