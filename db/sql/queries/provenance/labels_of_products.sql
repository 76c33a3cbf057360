-- Return the present label of each of these products, how often it was changed since it was loaded, and whether a person has
-- confirmed it.
select
    labels.productid,
    labels.prdtypecode,
    count(*) filter (where labels_history.operation_type = 'UPDATE') as changes,
    exists(
        select
        from confirmed_labels
        where confirmed_labels.productid = labels.productid and confirmed_labels.prdtypecode = labels.prdtypecode
    ) as is_confirmed
from labels
inner join labels_history on labels_history.label_id = labels.id
where labels.productid = any(%(productids)s)
group by labels.id
