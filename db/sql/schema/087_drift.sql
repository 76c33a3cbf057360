-- How the products that each week added differ from those of the first week and of the week before: one row for each week,
-- feature and reference. The stages compare the products and record the results: the snapshot stage those of classes, lengths and
-- languages, the training stage those of words and confidence. A correction has no rows, nor has a batch of an earlier version.
--
-- jsonb_path_query() with `silent => true` skips a record that is no list of objects, so such a record cannot break the view.
create or replace view drift as
select
    id as batch_id,
    batch_name,
    chain_number,
    entry ->> 'feature' as feature,
    entry ->> 'reference' as reference,
    (entry ->> 'rows')::bigint as rows,
    (entry ->> 'reference_rows')::bigint as reference_rows,
    (entry ->> 'psi')::double precision as psi,
    (entry ->> 'js')::double precision as js,
    (entry ->> 'noise')::double precision as noise,
    (entry ->> 'drifted')::boolean as drifted
from batches
cross join lateral (values (1, dataset), (2, model)) as stages (place, result)
cross join lateral jsonb_path_query(
    result, 'strict $.drift[*] ? (@.type() == "object")', silent => true
) with ordinality as found (entry, position)
where status = 'completed'
order by chain_number, place, found.position;
