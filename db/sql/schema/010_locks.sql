-- Advisory locks. db/locks.py names those with one 64-bit key, this script those with two 32-bit keys; PostgreSQL never mixes the
-- two. Nothing else in this database takes an advisory lock.

-- The lock of a stage's claim on a batch: this class and the batch's id. The numbers are 'snap' and 'trai' in ASCII.
create or replace function stage_lock_class(stage text) returns integer
language sql immutable
return case stage when 'snapshot' then 1936613744 when 'training' then 1953653097 end;
