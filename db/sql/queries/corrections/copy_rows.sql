copy correction (row_number, operation, productid, designation, description, imageid, prdtypecode, image_path)
from stdin (format csv)
