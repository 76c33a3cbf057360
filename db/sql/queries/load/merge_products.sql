-- Insert the week's products. A product that an earlier attempt at this week inserted is not written again: if it differs from
-- the file, somebody has corrected it since. If somebody inserted a product by hand before its week, this statement sets the
-- product's position in the loading order (sample_rank), and makes it a holdout product if its row of the
-- source file is in the holdout.
insert into products (productid, designation, description, imageid, image_path, sample_rank, split)
select productid, designation, description, imageid, image_path, sample_rank, split
from staging
order by productid
on conflict (productid) do update
    set sample_rank = excluded.sample_rank,
        split = case when excluded.split = 'holdout' then excluded.split else products.split end
    where products.sample_rank is distinct from excluded.sample_rank
