-- Return the insertions whose product never existed.
select row_number, productid
from correction
where operation = 'insert' and not existed_before
