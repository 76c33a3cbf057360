-- The advisory locks with two 32-bit keys. The advisory locks with one 64-bit key are in db/locks.py. PostgreSQL never mixes
-- the two kinds. Nothing else in this database takes an advisory lock.

-- Return the first key of the lock that a stage holds while it works on a batch. The second key is the batch's id. The numbers
-- are 'snap' and 'trai' in ASCII.
create or replace function stage_lock_class(stage text) returns integer
language sql immutable
return case stage when 'snapshot' then 1936613744 when 'training' then 1953653097 end;
