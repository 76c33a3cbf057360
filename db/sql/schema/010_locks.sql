-- The advisory locks that have two 32-bit keys. db/locks.py has the advisory locks with one 64-bit key. A lock of one kind
-- never conflicts with a lock of the other kind. No other code takes an advisory lock in this database.

-- Return the first key of the advisory lock that a worker of a stage holds while it works on a batch. The second key is the
-- batch's id. The two numbers are the texts 'snap' and 'trai' in ASCII.
create or replace function stage_lock_class(stage text) returns integer
language sql immutable
return case stage when 'snapshot' then 1936613744 when 'training' then 1953653097 end;
