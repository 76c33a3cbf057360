-- Products that are not there where the file takes them to be, or the other way round.
select
    row_number,
    case
        when operation = 'insert' and is_there then 'there already'
        when operation = 'insert' then 'incomplete'
        when exists (
            select from products_history as past
            where past.productid = correction.productid and past.operation_type = 'DELETE'
        ) then 'deleted'
        else 'unknown'
    end as fault
from correction
where case operation
    when 'insert' then is_there or designation is null or prdtypecode is null
    else not is_there
end
order by row_number
