-- Return the seal of every completed batch, and when the batch was completed. The seal is a digest of the batch's data and of
-- the seal of the batch before.
select seal, completed_at from batches where status = 'completed'
