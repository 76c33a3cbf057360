-- A batch's training rows, and among them those that are held out: the past is looked up once for both, which costs more than
-- to send a tenth more rows. The order is total, so that the same batch always gives the same bytes.
copy (
    select productid, designation, description, imageid, image_path, prdtypecode, split = 'holdout' as held_out
    from products_as_of_batch(%(batch_id)s)
    where split = 'holdout' or prdtypecode is not null
    order by sample_rank nulls last, productid
) to stdout (format binary)
