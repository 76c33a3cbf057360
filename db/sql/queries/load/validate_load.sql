-- Count the rows of `products`, so that validate_data_load() can check a load. The rows of the CSV file are loaded in a random
-- order. A row's sample_rank is its position in this order, from 0. After a load, exactly the rows with a sample_rank below
-- `target_rows` must have been loaded. So validate_data_load() checks these counts:
-- * held_rows + deleted_rows must be `target_rows`: each of these rows is in `products`, or the history records its deletion.
-- * excess_rows must be 0: no other row of the CSV file is in `products`.
-- * unlabelled_rows must be 0: every row of the CSV file that is in `products` has a label.
select
    count(*) as total_rows,
    count(*) filter (where sample_rank < %(target_rows)s) as held_rows,
    count(*) filter (where sample_rank >= %(target_rows)s) as excess_rows,
    count(*) filter (where sample_rank is not null and prdtypecode is null) as unlabelled_rows,
    (
        -- The full join keeps the planner from comparing each deletion with each product where it has no statistics.
        select count(distinct deleted.sample_rank)
        from (
            select sample_rank from products_history
            where operation_type = 'DELETE' and sample_rank < %(target_rows)s
        ) as deleted
        full join products as present on present.sample_rank = deleted.sample_rank
        where present.id is null
    ) as deleted_rows
from products
left join labels using (productid)
