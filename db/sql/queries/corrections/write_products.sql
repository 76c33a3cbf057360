merge into products
using (select * from correction where changes_product) as correction
on products.productid = correction.productid
when matched and operation = 'delete' then delete
when matched then update
    set designation = correction.designation,
        description = correction.description,
        imageid = correction.imageid,
        image_path = correction.image_path,
        split = correction.split
when not matched then insert (productid, designation, description, imageid, image_path, sample_rank, split)
    values (productid, designation, description, imageid, image_path, sample_rank, split)
