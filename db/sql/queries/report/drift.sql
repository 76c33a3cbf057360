-- How far the products that each week added are from those of the first week and of the week before, for each feature. A distance
-- `js` above `noise` is drift; a distance below it could be chance.
select chain_number, batch_name, feature, reference, rows, reference_rows, psi, js, noise, drifted
from drift
order by chain_number, feature, reference
