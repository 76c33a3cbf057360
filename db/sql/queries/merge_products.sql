-- A row that is there already, unchanged, is left alone: no new row version and no history entry.
insert into products (productid, designation, description, imageid, image_path, sample_rank, split)
select productid, designation, description, imageid, image_path, sample_rank, split
from staging
order by sample_rank
on conflict (productid) do update
    set designation = excluded.designation,
        description = excluded.description,
        imageid = excluded.imageid,
        image_path = excluded.image_path,
        sample_rank = excluded.sample_rank,
        split = excluded.split
    where (
        products.designation, products.description, products.imageid, products.image_path,
        products.sample_rank, products.split
    ) is distinct from (
        excluded.designation, excluded.description, excluded.imageid, excluded.image_path,
        excluded.sample_rank, excluded.split
    )
