-- Count the rows of `products`, so that the caller can check a load. The rows of the CSV file are loaded in a random order. A
-- row's sample_rank is its position in this order, from 0. After the load, the rows with a sample_rank below `target_rows` must
-- be loaded. The caller checks: for every sample_rank below target_rows there is a product (held_rows), or the history records
-- its deletion (deleted_rows); no product has a greater sample_rank (excess_rows); every product of the file has a label.
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
