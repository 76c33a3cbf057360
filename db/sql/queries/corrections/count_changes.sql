select
    count(*) filter (where operation = 'insert') as inserted,
    count(*) filter (where operation = 'update' and changes_product) as updated,
    count(*) filter (where operation = 'delete') as deleted,
    count(*) filter (where changes_label) as labels
from correction
