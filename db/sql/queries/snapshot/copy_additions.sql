-- What copy_batch sends of the products that came between two batches, where they brought nothing else.
copy (
    select
        productid,
        case when split = 'train' then designation end as designation,
        case when split = 'train' then description end as description,
        imageid,
        case when split = 'train' then image_path end as image_path,
        prdtypecode,
        split = 'holdout' as held_out
    from products_history as product
    join labels_history as label using (productid)
    where product.history_id > %(products_after)s
        and product.history_id <= %(products_up_to)s
        and label.history_id > %(labels_after)s
        and label.history_id <= %(labels_up_to)s
    order by held_out, sample_rank nulls last, productid
) to stdout (format binary)
