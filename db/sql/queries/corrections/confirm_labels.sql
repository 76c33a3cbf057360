-- Remember that a person has confirmed the present labels of these products.
insert into confirmed_labels (productid, prdtypecode)
select productid, prdtypecode
from labels
where productid = any(%(productids)s)
on conflict do nothing
