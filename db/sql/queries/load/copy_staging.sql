copy staging (productid, imageid, prdtypecode, designation, description, image_path, sample_rank, split)
from stdin (format csv)
