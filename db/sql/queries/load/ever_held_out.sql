-- Return those of the given productids whose product had the split 'holdout' at any time. The history also knows the productids
-- that a product had before.
select distinct named.productid
from products_history as named
join products_history as entry using (product_id)
where named.productid = any(%(productids)s) and entry.split = 'holdout'
