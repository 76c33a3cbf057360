-- Mark for each row of a correction file whether it changes the product, and whether it changes the product's label. A row
-- whose values the product already has is not marked: the load then does not write the product, and no history entry is made.
update correction
set changes_product = given.operation <> 'update' or (
        given.designation, given.description, given.imageid, given.image_path, given.split
    ) is distinct from (
        present.designation, present.description, present.imageid, present.image_path, present.split
    ),
    changes_label = case given.operation
        when 'delete' then label.productid is not null
        else given.prdtypecode is distinct from label.prdtypecode
    end
from correction as given
left join products as present using (productid)
left join labels as label using (productid)
where correction.row_number = given.row_number
