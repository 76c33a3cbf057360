-- Return those of the given productids whose product had the split 'holdout' at any time. A correction can change a product's
-- productid (its number in the source file), but never its product_id (our own key). The query joins on product_id, so it also
-- finds the history entries in which the product had another productid.
--
-- The cast makes PostgreSQL look a productid up in a hash table. Python sends numbers that fit into four bytes as integer[], and
-- PostgreSQL would then compare each row of the history with each given number.
select distinct named.productid
from products_history as named
join products_history as entry using (product_id)
where named.productid = any(%(productids)s::bigint[]) and entry.split = 'holdout'
