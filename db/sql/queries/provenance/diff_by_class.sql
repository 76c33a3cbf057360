-- Count, for each class, the products that differ between two batches, and in what they differ.
select
    prdtypecode,
    count(*) filter (where change = 'added') as added,
    count(*) filter (where change = 'changed') as changed,
    count(*) filter (where change = 'removed') as removed,
    count(*) filter (where 'text' = any (differs)) as text,
    count(*) filter (where 'image' = any (differs)) as image,
    count(*) filter (where 'label' = any (differs)) as label,
    count(*) filter (where 'split' = any (differs)) as split
from products_diff(%(earlier)s, %(later)s)
group by prdtypecode
order by prdtypecode nulls last
