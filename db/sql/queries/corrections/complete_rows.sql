-- Fill in missing values in the temporary table `correction`, which holds the rows of a correction file. Afterwards, each row
-- that updates or inserts a product holds all values that the product will have after the correction. For an update: if the file
-- does not have a column, use the product's current value. For an insertion that restores a deleted product: if the file leaves
-- a value empty, use the value that the product had before its deletion. The restored product also keeps its old position in
-- the loading order (sample_rank).
with deleted as (
    select distinct on (productid) productid, designation, description, imageid, image_path, sample_rank, split
    from products_history
    where operation_type = 'DELETE' and productid in (select productid from correction where operation = 'insert')
    order by productid, sample_rank is null, history_id desc
),
last_label as (
    select distinct on (productid) productid, prdtypecode
    from labels_history
    where productid in (select productid from correction where operation = 'insert')
    order by productid, history_id desc
)
update correction
set exists_now = present.productid is not null,
    existed_before = present.productid is not null or deleted.productid is not null,
    designation = case
        when given.operation = 'update' and not 'designation' = any (%(columns)s) then present.designation
        else coalesce(given.designation, deleted.designation)
    end,
    description = case
        when given.operation = 'update' and not 'description' = any (%(columns)s) then present.description
        else coalesce(given.description, deleted.description)
    end,
    imageid = case
        when given.operation = 'update' and not 'imageid' = any (%(columns)s) then present.imageid
        else coalesce(given.imageid, deleted.imageid)
    end,
    image_path = case
        when given.operation = 'insert' and given.imageid is null then deleted.image_path
        when given.operation = 'update' and not 'imageid' = any (%(columns)s) then present.image_path
        when given.operation = 'update' and given.imageid is not distinct from present.imageid then present.image_path
        else given.image_path
    end,
    prdtypecode = case
        when given.operation = 'update' and not 'prdtypecode' = any (%(columns)s) then label.prdtypecode
        else coalesce(given.prdtypecode, last_label.prdtypecode)
    end,
    sample_rank = deleted.sample_rank,
    split = coalesce(present.split, deleted.split, 'train')
from correction as given
left join products as present using (productid)
left join labels as label using (productid)
left join deleted using (productid)
left join last_label using (productid)
where correction.row_number = given.row_number
