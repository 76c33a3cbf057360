-- Return the rows of a correction file that insert a product with a new productid, which no product has now or had before.
select row_number, productid
from correction
where operation = 'insert' and not existed_before
