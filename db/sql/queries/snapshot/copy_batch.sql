-- A batch's training rows, and after them those that are held out, without texts: the past is looked up once for both. The order
-- is total, so that the same batch always gives the same bytes.
copy (
    select
        productid,
        case when split = 'train' then designation end as designation,
        case when split = 'train' then description end as description,
        imageid,
        case when split = 'train' then image_path end as image_path,
        prdtypecode,
        split = 'holdout' as held_out
    from products_as_of_batch(%(batch_id)s)
    where split = 'holdout' or prdtypecode is not null
    order by held_out, sample_rank nulls last, productid
) to stdout (format binary)
