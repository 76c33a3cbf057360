-- Tell whether the dataset of a batch can be built by adding rows at the end of an earlier dataset. Between the two batches,
-- the history may have only new products with their labels. The sample_rank of every new training product must also be greater
-- than that of the earlier dataset's last product. Any other entry would change rows of the earlier dataset, or add rows
-- between them.
-- `last` finds the sample_rank of that last product. To use an index, it looks up the product that has the productid today. If
-- another product had this productid at the time, `last` finds no sample_rank. Then the answer is false if any training product
-- was added.
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
select not exists (
    select
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
)
