-- Return the inserted and updated products of a correction that have the split 'train'. From their new texts, the caller decides
-- which of them must get the split 'holdout' instead.
select productid, designation, description
from correction
where operation <> 'delete' and split = 'train'
