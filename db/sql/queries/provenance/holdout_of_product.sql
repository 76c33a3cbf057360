-- Whether a product was ever held out, and whether it came so from the source file, which alone gives a sample_rank: then
-- holdout_df holds it.
select
    bool_or(split = 'holdout') as held_out,
    coalesce((array_agg(split = 'holdout' order by history_id) filter (where sample_rank is not null))[1], false) as in_holdout_df
from products_history
where product_id in (select product_id from products_history where productid = %(productid)s)
having count(*) > 0
