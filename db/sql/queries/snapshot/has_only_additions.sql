-- Tell whether a batch's dataset consists of the rows of an earlier batch's dataset, followed by new rows. Two conditions must
-- hold:
-- (1) Every history entry between the two batches inserts a new product with its label. Any other entry could change rows of
--     the earlier dataset.
-- (2) The sample_rank of every new training product is greater than the sample_rank of the earlier dataset's last product. The
--     rows of a dataset are ordered by sample_rank, so the new rows then come last.
--
-- The parameter `last_productid` is the productid of that last product in the earlier dataset. `last` finds the sample_rank of
-- the product. If no product has this productid any more, `last` finds nothing. The answer is then false if any training
-- product was added. A wrong `false` is safe: the new dataset is then built without the rows of the earlier one.
--
-- The query counts instead of asking `not exists`, because for `not exists` PostgreSQL prefers a plan that finds a first row
-- soon. Without statistics, this plan reads the whole history.
with last as (
    select sample_rank
    from products_history
    where productid = %(last_productid)s
        and history_id = (
            select max(history_id)
            from products_history
            where product_id = (select id from products where productid = %(last_productid)s)
                and history_id <= %(products_after)s
        )
)
select count(*) = 0
from (
    select productid, operation_type, split, sample_rank
    from products_history
    where history_id > %(products_after)s and history_id <= %(products_up_to)s
) as product
full join (
    select productid, operation_type
    from labels_history
    where history_id > %(labels_after)s and history_id <= %(labels_up_to)s
) as label using (productid)
where (product.operation_type = 'INSERT' and label.operation_type = 'INSERT') is not true
    or (product.split = 'holdout' or product.sample_rank > (select sample_rank from last)) is not true
