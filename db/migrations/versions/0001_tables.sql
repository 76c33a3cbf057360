-- Revision 0001: create the tables and their indexes. Do not edit a revision after its release: add a revision that changes the
-- tables. `products` and `labels` hold the current state. The *_history tables are the record of the past.

create table products (
    id          bigint generated always as identity primary key,
    designation text,
    description text,
    productid   bigint not null unique,
    imageid     bigint,
    image_path  text,
    created_at  timestamptz not null default now(),
    -- position in the seeded permutation of the training file; null for a product that is not in a file
    sample_rank bigint,
    split       text not null default 'train' check (split in ('train', 'holdout')),
    -- db.source enforces this limit too, and readers rely on it
    constraint products_text_length check (length(designation) <= 100000 and length(description) <= 100000)
);

create table labels (
    id          bigint generated always as identity primary key,
    productid   bigint not null unique,
    prdtypecode integer not null
);

create table data_loads (
    id           bigint generated always as identity primary key,
    batch_name   text not null unique check (batch_name ~ '^(week|correction)_[1-9][0-9]{0,8}$'),
    percentage   numeric(5, 2) not null check (percentage > 0 and percentage <= 100),
    -- the number of rows in `products` when the batch is complete (cumulative)
    total_rows   bigint not null default 0,
    started_at   timestamptz not null default clock_timestamp(),
    completed_at timestamptz,
    status       text not null default 'running' check (status in ('running', 'completed', 'failed')),
    -- the keys source, load, audit, snapshot and training record what each step did for this batch
    metadata     jsonb not null default '{}',
    check ((status = 'completed') = (completed_at is not null))
);

create index data_loads_completed_at on data_loads (completed_at);

-- Only one load may run at a time, because each week starts from the rows of the week before.
create unique index data_loads_one_running on data_loads ((true)) where status = 'running';

-- The hash chain of the completed batches has its own numbers. Ids would give the wrong order, because a failed batch may
-- complete after batches with a greater id. Times would too, because clocks are set back. The index is unique, so the chain
-- cannot fork.
create unique index data_loads_chain on data_loads (((metadata #>> '{audit,number}')::bigint)) where status = 'completed';

-- The batches that each stage still has to process. The indexes are partial: finished batches do not make them grow.
create index data_loads_pending_snapshot on data_loads (id)
    where status = 'completed' and metadata #>> '{snapshot,state}' is distinct from 'finished';
create index data_loads_pending_training on data_loads (id)
    where status = 'completed' and metadata #>> '{training,state}' is distinct from 'finished';

create table products_history (
    history_id     bigint generated always as identity primary key,
    product_id     bigint not null,
    productid      bigint not null,
    designation    text,
    description    text,
    imageid        bigint,
    image_path     text,
    operation_type text not null check (operation_type in ('INSERT', 'UPDATE', 'DELETE')),
    operation_date timestamptz not null,
    load_batch_id  bigint,  -- no foreign key: current_batch_id() checks the id once per statement, a key would check every row
    sample_rank    bigint,
    split          text not null,
    -- the login that made the change, not the owner with whose rights the trigger runs
    changed_by     text not null default session_user,
    application    text not null default current_setting('application_name'),
    transaction_id bigint not null default txid_current()
);

-- From this index alone, PostgreSQL finds the newest entry of each product up to a watermark (a batch's last history id) or a
-- time. It also finds every product that ever had a given productid.
create index products_history_product on products_history (product_id, history_id)
    include (productid, operation_date);
-- Entries arrive in the order of time and batch, so a block-range index (BRIN) is small and cheap to maintain.
create index products_history_date on products_history using brin (operation_date);
create index products_history_batch on products_history using brin (load_batch_id);
-- Deletions are few. The validation of a load looks for the deletion of each missing row.
create index products_history_deleted on products_history (sample_rank) where operation_type = 'DELETE';

create table labels_history (
    history_id     bigint generated always as identity primary key,
    label_id       bigint not null,
    productid      bigint not null,
    prdtypecode    integer not null,
    operation_type text not null check (operation_type in ('INSERT', 'UPDATE', 'DELETE')),
    operation_date timestamptz not null,
    load_batch_id  bigint,
    changed_by     text not null default session_user,
    application    text not null default current_setting('application_name'),
    transaction_id bigint not null default txid_current()
);

create index labels_history_label on labels_history (label_id, history_id)
    include (productid, operation_date);
create index labels_history_date on labels_history using brin (operation_date);
create index labels_history_batch on labels_history using brin (load_batch_id);
