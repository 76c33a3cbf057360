-- Return those of the given productids whose product had the split 'holdout' at any time. A productid can be changed, but the
-- product_id in the history stays the same. So the entries under an earlier productid of the product are searched, too.
select distinct named.productid
from products_history as named
join products_history as entry using (product_id)
where named.productid = any(%(productids)s) and entry.split = 'holdout'
