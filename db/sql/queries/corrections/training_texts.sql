-- Return the inserted and updated products of a correction that will be in the training set, so that the caller can compare
-- their texts with the held-out texts.
select productid, designation, description
from correction
where operation <> 'delete' and split = 'train'
