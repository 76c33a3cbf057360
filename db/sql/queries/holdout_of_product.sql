-- Whether a product was ever held out, and whether it came so from the source file: then holdout_df holds it.
select
    bool_or(split = 'holdout') as held_out,
    (array_agg(split = 'holdout' and sample_rank is not null order by history_id))[1] as in_holdout_df
from products_history
where product_id in (select product_id from products_history where productid = %(productid)s)
having count(*) > 0
