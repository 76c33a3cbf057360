-- Tell whether a new dataset can extend an earlier dataset: between the two batches, the history has only new products with
-- their labels. The rank of every new training product must also be greater than the rank of the earlier dataset's last
-- product. Any other entry changes rows of the earlier dataset, or adds rows between them.
-- `last` finds the rank of that last product by an index, from the product that has its productid today. If another product had
-- the productid then, `last` finds no rank, and the answer is false as soon as one training product was added.
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
