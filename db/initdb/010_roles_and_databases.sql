-- Create the logins and databases of the PostgreSQL server that docker-compose.yml starts. Each step of the pipeline has its
-- own login and password, and so do MLflow and Airflow. There is one database for the pipeline, one for MLflow and one for
-- Airflow. A login can connect to only one of these databases.
--
-- The PostgreSQL image runs this script once, as the superuser, when the data directory is new. Passwords come from environment
-- variables. To change a password, run the script again (docs/how-to/compose.md says how).

\set ON_ERROR_STOP on
-- do not write a failed statement of this script to the server's log: the statement may contain a password
set log_min_error_statement = panic;

\getenv owner_password RAKUTEN_OWNER_PASSWORD
\getenv loader_password RAKUTEN_LOADER_PASSWORD
\getenv snapshot_password RAKUTEN_SNAPSHOT_PASSWORD
\getenv training_password RAKUTEN_TRAINING_PASSWORD
\getenv server_password RAKUTEN_SERVER_PASSWORD
\getenv reader_password RAKUTEN_READER_PASSWORD
\getenv mlflow_password MLFLOW_DB_PASSWORD
\getenv airflow_password AIRFLOW_DB_PASSWORD

select format('create role %I login', name)
from unnest(array[
    'rakuten_owner', 'rakuten_loader', 'rakuten_snapshot', 'rakuten_training', 'rakuten_server', 'rakuten_reader',
    'mlflow', 'airflow'
]) as wanted(name)
where not exists (select from pg_roles where rolname = name)
\gexec

-- rakuten_owner will run the migrations. It does not get the right to create roles (CREATEROLE), because this script has
-- already created all roles that the migrations need. CREATEROLE would be too much: up to PostgreSQL 15, a role with CREATEROLE
-- can change every role of the cluster that is not a superuser.
alter role rakuten_owner login password :'owner_password';
alter role rakuten_loader login password :'loader_password';
alter role rakuten_snapshot login password :'snapshot_password';
alter role rakuten_training login password :'training_password';
alter role rakuten_server login password :'server_password';
alter role rakuten_reader login password :'reader_password';
alter role mlflow login password :'mlflow_password';
alter role airflow login password :'airflow_password';

select format('create database %I owner %I', name, owner)
from (values ('rakuten_db', 'rakuten_owner'), ('mlflow_db', 'mlflow'), ('airflow_db', 'airflow')) as wanted(name, owner)
where not exists (select from pg_database where datname = name)
\gexec

revoke all on database rakuten_db, mlflow_db, airflow_db, postgres, template1 from public;
grant connect on database rakuten_db to rakuten_loader, rakuten_snapshot, rakuten_training, rakuten_server, rakuten_reader;
-- The function listener_sessions() runs with the rights of its owner, rakuten_owner. It needs pg_read_all_stats to see when each
-- listener last sent a statement, so that pipeline_doctor() can report silent listeners.
grant pg_read_all_stats to rakuten_owner;
revoke pg_read_all_stats from rakuten_reader;

-- rakuten_owner may not describe roles, so db/sql/schema/140_describe_roles.sql cannot write these descriptions here.
comment on role rakuten_owner is 'Owns the tables and functions of the pipeline, and logs in only to upgrade the schema.';
comment on role rakuten_loader is 'Loads the weeks and corrections, and may do no other step of the pipeline.';
comment on role rakuten_snapshot is 'Builds the datasets, and may do no other step of the pipeline.';
comment on role rakuten_training is 'Trains the models, and may read neither products nor labels nor their history.';
comment on role rakuten_server is 'Reads which model is champion, for the model server, and nothing else.';
comment on role rakuten_reader is 'Reads everything and changes nothing: the role for people and reports.';
comment on role mlflow is 'Owns the database of MLflow, and may use no other database.';
comment on role airflow is 'Owns the database of Airflow, and may use no other database.';

-- The view storage shows the bytes of the write-ahead log through a function that runs with the rights of rakuten_owner. The
-- right to execute a function of PostgreSQL belongs to one database.
\connect rakuten_db
grant execute on function pg_catalog.pg_ls_waldir() to rakuten_owner;
