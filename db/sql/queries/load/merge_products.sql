-- Insert the week's products. If an earlier attempt at this week has already inserted a product, the product stays unchanged,
-- because somebody may have corrected its values since. If somebody inserted a product by hand before its week, only two
-- columns change: sample_rank (the position in the loading order), and split, which becomes 'holdout' if the source file says
-- so. Texts and image stay unchanged.
insert into products (productid, designation, description, imageid, image_path, sample_rank, split)
select productid, designation, description, imageid, image_path, sample_rank, split
from staging
order by productid
on conflict (productid) do update
    set sample_rank = excluded.sample_rank,
        split = case when excluded.split = 'holdout' then excluded.split else products.split end
    where products.sample_rank is distinct from excluded.sample_rank
