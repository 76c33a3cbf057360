-- The seal of every completed batch, and when it was completed.
select seal, completed_at from batches where status = 'completed'
