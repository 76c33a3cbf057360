-- Return the texts that the correction leaves in the training set, to check them against the holdout.
select productid, designation, description
from correction
where operation <> 'delete' and split = 'train'
