-- How far the rows of each batch are from the first batch and from the batch before, for each feature. A distance above `noise`
-- is drift; a distance below it could be chance.
select chain_number, batch_name, feature, reference, rows, reference_rows, psi, js, noise, drifted
from drift
order by chain_number, feature, reference
