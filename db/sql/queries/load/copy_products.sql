copy products (productid, designation, description, imageid, image_path, sample_rank, split)
from stdin (format csv)
