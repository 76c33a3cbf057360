-- Whether these entries of the history are new products with their labels and nothing else, the training products behind the
-- last one of the earlier dataset in its order. Anything else concerns rows that are in that dataset, or belong between them.
-- The last one's rank is found by index: by its productid today and, if that was another's then, not at all, which is no.
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
