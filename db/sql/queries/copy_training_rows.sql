-- The wide half of a snapshot, streamed. The order is total, so that the same batch always gives the same bytes.
copy (
    select productid, designation, description, imageid, image_path, prdtypecode
    from products_as_of_batch(%(batch_id)s)
    where split = 'train' and prdtypecode is not null
    order by sample_rank nulls last, productid
) to stdout (format csv)
