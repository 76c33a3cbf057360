-- Return the rows of a correction that cannot be applied, with the reason: an insertion of a product that exists, an insertion
-- without a designation or a label, or an update or deletion of a product that does not exist.
select
    row_number,
    case
        when operation = 'insert' and exists_now then 'there already'
        when operation = 'insert' then 'incomplete'
        when exists (
            select from products_history as past
            where past.productid = correction.productid and past.operation_type = 'DELETE'
        ) then 'deleted'
        else 'unknown'
    end as fault
from correction
where case operation
    when 'insert' then exists_now or designation is null or prdtypecode is null
    else not exists_now
end
order by row_number
