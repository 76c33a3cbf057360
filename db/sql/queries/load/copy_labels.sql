copy labels (productid, prdtypecode) from stdin (format csv)
