-- Return the application and the backend's pid of the session that holds the advisory lock with this key in this database.
select application_name, pid
from pg_locks
join pg_stat_activity using (pid)
where locktype = 'advisory'
    and granted
    and objsubid = 1
    and pg_locks.database = (select oid from pg_database where datname = current_database())
    and ((classid::bigint << 32) | objid::bigint) = %(key)s::bigint
