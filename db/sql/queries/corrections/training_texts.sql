-- Return the products with the split 'train' that a correction inserts or updates. From their new texts, the Python function that
-- runs this query decides which of these products must get the split 'holdout' instead.
select productid, designation, description
from correction
where operation <> 'delete' and split = 'train'
