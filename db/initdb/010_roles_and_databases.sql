-- Create the logins and databases of the PostgreSQL server in docker-compose.yml. Each step of the pipeline, MLflow and Airflow
-- have a login with its own password. There are three databases, and the logins of one database cannot connect to the others.
--
-- The PostgreSQL image runs this script once, as the superuser, when the data directory is new. Passwords come from environment
-- variables. To change a password, run the script again (see README.md).

\set ON_ERROR_STOP on
-- keep a failing statement, which may contain a password, out of the server's log
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

-- The script has just created all roles, so rakuten_owner does not need the right to create roles (CREATEROLE). That right
-- would be too much: up to PostgreSQL 15, a role with CREATEROLE can change every role of the cluster that is not a superuser.
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
-- listener_sessions() runs with the owner's rights and needs this right to see when a listener last sent a statement;
-- pipeline_doctor() reports silent listeners
grant pg_read_all_stats to rakuten_owner;
revoke pg_read_all_stats from rakuten_reader;
