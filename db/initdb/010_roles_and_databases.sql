-- The cluster of docker-compose.yml: a login for each step with a password of its own, and three databases that do not
-- see each other. Safe to run again: that is how passwords are changed, see the README.
--
-- The image runs it once, as the superuser, when the data directory is new. Passwords come from the environment.

\set ON_ERROR_STOP on
-- a failing statement must not end up in the server's log, password and all
set log_min_error_statement = panic;

\getenv owner_password RAKUTEN_OWNER_PASSWORD
\getenv loader_password RAKUTEN_LOADER_PASSWORD
\getenv snapshot_password RAKUTEN_SNAPSHOT_PASSWORD
\getenv training_password RAKUTEN_TRAINING_PASSWORD
\getenv reader_password RAKUTEN_READER_PASSWORD
\getenv mlflow_password MLFLOW_DB_PASSWORD
\getenv airflow_password AIRFLOW_DB_PASSWORD

select format('create role %I login', name)
from unnest(array[
    'rakuten_owner', 'rakuten_loader', 'rakuten_snapshot', 'rakuten_training', 'rakuten_reader', 'mlflow', 'airflow'
]) as wanted(name)
where not exists (select from pg_roles where rolname = name)
\gexec

-- All roles exist by now, so the owner needs no CREATEROLE, which up to PostgreSQL 15 reaches every role of the cluster.
alter role rakuten_owner login password :'owner_password';
alter role rakuten_loader login password :'loader_password';
alter role rakuten_snapshot login password :'snapshot_password';
alter role rakuten_training login password :'training_password';
alter role rakuten_reader login password :'reader_password';
alter role mlflow login password :'mlflow_password';
alter role airflow login password :'airflow_password';

select format('create database %I owner %I', name, owner)
from (values ('rakuten_db', 'rakuten_owner'), ('mlflow_db', 'mlflow'), ('airflow_db', 'airflow')) as wanted(name, owner)
where not exists (select from pg_database where datname = name)
\gexec

revoke all on database rakuten_db, mlflow_db, airflow_db, postgres, template1 from public;
grant connect on database rakuten_db to rakuten_loader, rakuten_snapshot, rakuten_training, rakuten_reader;
-- for listener_sessions(), which tells the doctor when a listener gave its last sign of life
grant pg_read_all_stats to rakuten_owner;
revoke pg_read_all_stats from rakuten_reader;
