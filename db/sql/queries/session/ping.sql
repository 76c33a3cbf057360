-- Return the channels that this session listens on, and tell PostgreSQL what it is doing.
select pg_listening_channels() from set_config('application_name', %(application_name)s, false)
