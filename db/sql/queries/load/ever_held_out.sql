-- Return those of the given productids that belong, or once belonged, to a product that was ever held out.
select distinct named.productid
from products_history as named
join products_history as entry using (product_id)
where named.productid = any(%(productids)s) and entry.split = 'holdout'
