select row_number, productid
from correction
where operation = 'insert' and not was_there
