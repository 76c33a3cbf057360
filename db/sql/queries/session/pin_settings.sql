-- Set every setting that the pipeline's statements depend on, for this session. A database, a role, an environment variable or
-- a pooler may have set another value. Settings that this version of PostgreSQL does not have are left out. The settings
-- tcp_... make the server notice after about 10 s that a client is lost, and release the client's locks.
--
-- Return the process id of the server process that serves this session.
select pg_catalog.pg_backend_pid(), pg_catalog.count(pg_catalog.set_config(name, value, false))
from (
    values
        ('search_path', 'public, internal, pg_temp'),
        ('role', 'none'),
        ('row_security', 'off'),  -- a row-level policy then raises an error instead of hiding rows
        ('default_transaction_isolation', 'read committed'),
        ('default_transaction_deferrable', 'off'),
        ('statement_timeout', '0'),
        ('lock_timeout', '0'),
        ('transaction_timeout', '0'),
        ('idle_in_transaction_session_timeout', '0'),
        ('idle_session_timeout', '0'),
        ('client_encoding', 'UTF8'),
        ('DateStyle', 'ISO, MDY'),
        ('IntervalStyle', 'postgres'),
        ('TimeZone', 'UTC'),
        ('bytea_output', 'hex'),
        ('extra_float_digits', '1'),
        ('standard_conforming_strings', 'on'),
        ('plan_cache_mode', 'auto'),
        ('tcp_keepalives_idle', '5'),
        ('tcp_keepalives_interval', '2'),
        ('tcp_keepalives_count', '3'),
        ('tcp_user_timeout', '8000')
) as pinned (name, value)
where pg_catalog.current_setting(name, true) is not null
