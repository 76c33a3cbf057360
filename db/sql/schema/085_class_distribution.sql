-- One row for each completed batch and each class of the products: how many training products of the class the batch holds
-- before the dataset is balanced, and their share of all training products of the batch. A class that a batch does not have yet
-- has 0 products. The counts come from the history, so the counts of a batch never change. They equal the counts over
-- products_as_of_batch().
--
-- The view reads each history table once, however many batches there are. It finds for each history entry the first batch that
-- holds it (`first_number`, a number of the hash chain) and the first batch that holds a newer entry of the same product or
-- label instead (`end_number`). The join with the labels gives the batches in which a product had a class. In the first of
-- these batches the class gains a product, and at their end it loses one. The sum of these changes is the count.
--
-- width_bucket() finds the batch of an entry with a binary search in the sorted watermarks of all batches. An entry after the
-- last watermark gets a number after the last batch, and no row counts it.
--
-- The full join, and the condition that follows it in a step of its own, keep the planner from a nested loop where it has no
-- statistics (see products_at() in 080_as_of.sql). The condition drops a product without a label, and a label without a product.
create or replace view class_distribution as
with watermarks as (
    select
        array_agg(products_up_to order by chain_number) as of_products,
        array_agg(labels_up_to order by chain_number) as of_labels
    from batches
    where status = 'completed'
),
product_versions as (
    select productid, first_number, end_number
    from (
        select
            productid,
            first_number,
            coalesce(lead(first_number) over (partition by product_id order by history_id), 2147483647) as end_number,
            split = 'train' and operation_type <> 'DELETE' as is_training_product
        from (
            select
                history_id, product_id, productid, split, operation_type,
                width_bucket(history_id - 1, (select of_products from watermarks)) + 1 as first_number
            from products_history
        ) as entries
    ) as versions
    where is_training_product and first_number < end_number
),
label_versions as (
    select productid, prdtypecode, first_number, end_number
    from (
        select
            productid,
            prdtypecode,
            first_number,
            coalesce(lead(first_number) over (partition by label_id order by history_id), 2147483647) as end_number,
            operation_type <> 'DELETE' as is_label
        from (
            select
                history_id, label_id, productid, prdtypecode, operation_type,
                width_bucket(history_id - 1, (select of_labels from watermarks)) + 1 as first_number
            from labels_history
        ) as entries
    ) as versions
    where is_label and first_number < end_number
),
labelled as materialized (
    select
        label.prdtypecode,
        product.first_number as product_first,
        product.end_number as product_end,
        label.first_number as label_first,
        label.end_number as label_end
    from product_versions as product
    full join label_versions as label using (productid)
),
changes as materialized (
    select prdtypecode, chain_number, sum(change) as change
    from labelled
    cross join lateral (
        values (greatest(product_first, label_first), 1), (least(product_end, label_end), -1)
    ) as steps (chain_number, change)
    where product_first < label_end and label_first < product_end
    group by prdtypecode, chain_number
),
counts as (
    select
        batches.id as batch_id,
        batch_name,
        chain_number,
        prdtypecode,
        (sum(coalesce(change, 0)) over (partition by prdtypecode order by chain_number))::bigint as products
    from batches
    cross join (select distinct prdtypecode from changes) as classes
    left join changes using (chain_number, prdtypecode)
    where status = 'completed'
)
select
    batch_id,
    batch_name,
    prdtypecode,
    coalesce(categories.name, 'unknown') as category,
    products,
    (products / nullif(sum(products) over (partition by batch_id), 0))::double precision as share
from counts
left join categories using (prdtypecode)
order by chain_number, prdtypecode;
