-- Return the present label of each of these products, and how often it was changed since it was loaded.
select
    labels.productid,
    labels.prdtypecode,
    count(*) filter (where labels_history.operation_type = 'UPDATE') as changes
from labels
inner join labels_history on labels_history.label_id = labels.id
where labels.productid = any(%(productids)s)
group by labels.id
