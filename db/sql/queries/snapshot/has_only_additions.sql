-- Tell whether the dataset of a batch consists of an earlier batch's dataset and new rows after it. This holds if all history
-- entries between the two batches insert new products with their labels, and the sample_rank (it orders a dataset's rows) of
-- each new training product is greater than that of the earlier dataset's last product. Any other history entry would change
-- rows of the earlier dataset, or add rows between them.
-- `last` finds the sample_rank of the earlier dataset's last product. The parameter `last_productid` is the productid that this
-- product had then. If the product has another productid now, `last` finds nothing, and the answer is false if any training
-- product was added. That is safe: the dataset is then built from its beginning.
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
