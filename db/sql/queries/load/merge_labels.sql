insert into labels (productid, prdtypecode)
select productid, prdtypecode
from staging
order by productid
on conflict (productid) do nothing
