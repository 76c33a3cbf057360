-- Return whether a product ever had the split 'holdout', and whether the product is in holdout_df, the fixed set that every
-- model is evaluated on. A product is in holdout_df if its first history entry with a sample_rank has the split 'holdout',
-- because the load sets the sample_rank and the split of each product of the source file. Other products have no sample_rank.
select
    bool_or(split = 'holdout') as held_out,
    coalesce((array_agg(split = 'holdout' order by history_id) filter (where sample_rank is not null))[1], false) as in_holdout_df
from products_history
where product_id in (select product_id from products_history where productid = %(productid)s)
having count(*) > 0
