-- Return the rows of a correction file that insert a product with a new productid: no product has it now or had it before.
select row_number, productid
from correction
where operation = 'insert' and not existed_before
