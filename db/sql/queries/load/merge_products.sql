-- A row that is there already is left alone: an earlier attempt at this week has brought it, and whatever differs from the file
-- is a correction. One that somebody has entered before its week came gets its rank, and is held out if the file's text is.
insert into products (productid, designation, description, imageid, image_path, sample_rank, split)
select productid, designation, description, imageid, image_path, sample_rank, split
from staging
order by productid
on conflict (productid) do update
    set sample_rank = excluded.sample_rank,
        split = case when excluded.split = 'holdout' then excluded.split else products.split end
    where products.sample_rank is distinct from excluded.sample_rank
