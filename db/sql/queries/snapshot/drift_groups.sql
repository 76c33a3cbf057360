-- Return the products that drift compares for a batch that is a week: `new` are the training products that the week added,
-- `first` those of the first week, and `before` those of the week before. For each group, return the productids of at most 2,000
-- products with the lowest sample_rank, in its order. The first week has only the group `new`, and a correction has no group.
--
-- A product belongs to the batch that inserted it, and the history ids between the marks of two batches are those of the second.
with completed as (
    select
        id,
        chain_number,
        kind,
        products_up_to,
        lag(products_up_to, 1, 0::bigint) over (order by chain_number) as products_after
    from batches
    where status = 'completed'
),
this_week as (
    select * from completed where id = %(batch_id)s and kind = 'week'
),
earlier as (
    select completed.*
    from completed
    join this_week on completed.kind = 'week' and completed.chain_number < this_week.chain_number
),
groups as (
    select 'new' as name, products_after, products_up_to
    from this_week
    union all
    (select 'first', products_after, products_up_to from earlier order by chain_number limit 1)
    union all
    (select 'before', products_after, products_up_to from earlier order by chain_number desc limit 1)
)
select name, array_agg(productid order by sample_rank, productid)
from groups
cross join lateral (
    select productid, sample_rank
    from products_history
    where history_id > products_after
        and history_id <= products_up_to
        and operation_type = 'INSERT'
        and split = 'train'
    order by sample_rank, productid
    limit 2000
) as sampled
group by name
