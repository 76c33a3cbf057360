-- Return the insertions of a correction whose productid no product has now or had before.
select row_number, productid
from correction
where operation = 'insert' and not existed_before
