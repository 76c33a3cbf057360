-- Return the rows of a correction (a file of changes to products) that cannot be applied, each with a word for the reason. Such a
-- row inserts a product that exists already, inserts a product without a designation or a label, or updates or deletes a product
-- that does not exist.
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
