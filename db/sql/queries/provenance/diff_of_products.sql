select productid, change, differs, prdtypecode, before, after
from products_diff(%(earlier)s, %(later)s)
order by change, productid
