-- Count what `products` holds, to compare it with what it should hold. Every rank (sample_rank) below the target must exist, or
-- somebody must have deleted its product (the history records who). No rank at or above the target may exist. Every product of
-- the file must have a label.
select
    count(*) as total_rows,
    count(*) filter (where sample_rank < %(target_rows)s) as held_rows,
    count(*) filter (where sample_rank >= %(target_rows)s) as excess_rows,
    count(*) filter (where sample_rank is not null and prdtypecode is null) as unlabelled_rows,
    (
        select count(distinct deleted.sample_rank)
        from products_history as deleted
        where deleted.operation_type = 'DELETE'
            and deleted.sample_rank < %(target_rows)s
            and not exists (select from products where products.sample_rank = deleted.sample_rank)
    ) as deleted_rows
from products
left join labels using (productid)
