copy staging (productid, designation, description, imageid, image_path, sample_rank, split, prdtypecode)
from stdin (format csv)
