-- Count the rows of `products`, so that the caller can check a load. `target_rows` is the number of rows of the CSV file
-- that should be loaded after this load. For every sample_rank below target_rows there must be a product, or
-- the history must record that somebody deleted it. No product may have a sample_rank of target_rows or more.
-- Every product of the file must have a label.
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
