-- The advisory locks that have two 32-bit keys. db/locks.py has the advisory locks with one 64-bit key. A lock with two keys
-- never conflicts with a lock with one key. Only this file and db/locks.py define advisory locks for this database.

-- While a worker of the stage `snapshot` or `training` works on a batch, it holds an advisory lock with two keys. Return the
-- first key, which stands for the stage: the ASCII bytes of 'snap' or 'trai', read as an integer. The second key is
-- the batch's id.
create or replace function internal.stage_lock_class(stage text) returns integer
language sql immutable
return case stage when 'snapshot' then 1936613744 when 'training' then 1953653097 end;
