select productid, designation, description
from correction
where operation <> 'delete' and split = 'train'
