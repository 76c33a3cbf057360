copy correction (row_number, operation, productid, designation, description, imageid, image_path, prdtypecode)
from stdin (format csv)
