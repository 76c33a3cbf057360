-- Tell whether a product was ever held out, and whether it is in holdout_df, the fixed set that every model is evaluated on. It
-- is in holdout_df if it came from the source file and was held out when the load inserted it. A product came from the source
-- file if it has a sample_rank.
select
    bool_or(split = 'holdout') as held_out,
    coalesce((array_agg(split = 'holdout' order by history_id) filter (where sample_rank is not null))[1], false) as in_holdout_df
from products_history
where product_id in (select product_id from products_history where productid = %(productid)s)
having count(*) > 0
