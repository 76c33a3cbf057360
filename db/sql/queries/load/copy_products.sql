copy products (productid, imageid, designation, description, image_path, sample_rank, split)
from stdin (format csv)
