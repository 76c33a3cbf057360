-- Return the seal of every completed batch, and the batch's number in the hash chain. The seal is a digest of the batch's data
-- and of the seal of the batch before.
select seal, chain_number from batches where status = 'completed'
