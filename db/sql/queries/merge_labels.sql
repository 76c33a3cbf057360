insert into labels (productid, prdtypecode)
select productid, prdtypecode
from staging
order by sample_rank
on conflict (productid) do nothing
