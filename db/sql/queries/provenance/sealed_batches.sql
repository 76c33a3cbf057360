-- Return the seal of every completed batch (a digest that includes the seal of the batch before), and when the batch was
-- completed.
select seal, completed_at from batches where status = 'completed'
