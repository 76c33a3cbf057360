-- Count the products that differ between two batches, for each product class: how many were added, changed or removed, and how
-- many of the changed ones differ in text, image, label or split.
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
