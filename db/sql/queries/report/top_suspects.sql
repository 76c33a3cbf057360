-- The products that the newest model with suspects suspects most, with the label of then, and what became of it since.
with newest as (
    select model #> '{suspects,top}' as suspects
    from batches
    where jsonb_typeof(model #> '{suspects,top}') = 'array'
    order by chain_number desc
    limit 1
)
select
    suspect.productid,
    products.designation as title,
    suspect.prdtypecode as label,
    present_class.name as label_class,
    suspect.suggested,
    suggested_class.name as suggested_class,
    suspect.probability,
    case
        when labels.prdtypecode is null or labels.prdtypecode <> suspect.prdtypecode then 'changed since'
        when confirmed_labels.productid is not null then 'confirmed by a person'
        else 'open'
    end as state
from newest
cross join lateral jsonb_to_recordset(suspects) as suspect (
    productid bigint, prdtypecode integer, suggested integer, probability double precision
)
left join products using (productid)
left join labels using (productid)
left join confirmed_labels
    on confirmed_labels.productid = suspect.productid and confirmed_labels.prdtypecode = suspect.prdtypecode
left join categories as present_class on present_class.prdtypecode = suspect.prdtypecode
left join categories as suggested_class on suggested_class.prdtypecode = suspect.suggested
order by suspect.probability desc nulls last, suspect.productid
