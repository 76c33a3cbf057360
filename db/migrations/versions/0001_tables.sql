-- Revision 0001. A revision is never edited once it is released: a later one changes its tables.
-- The seed tables. `products` and `labels` are the current state; the *_history tables are the truth about the past.

create table products (
    id          bigint generated always as identity primary key,
    designation text,
    description text,
    productid   bigint not null unique,
    imageid     bigint,
    image_path  text,
    created_at  timestamptz not null default now(),
    -- position in the seeded permutation of the training file; null for a product that no file holds
    sample_rank bigint,
    split       text not null default 'train' check (split in ('train', 'holdout')),
    -- db.source rejects longer texts too, and readers rely on the limit
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
    -- what `products` holds when the batch is complete (cumulative)
    total_rows   bigint not null default 0,
    started_at   timestamptz not null default clock_timestamp(),
    completed_at timestamptz,
    status       text not null default 'running' check (status in ('running', 'completed', 'failed')),
    -- source, load, audit, snapshot, training: what each step did for this batch
    metadata     jsonb not null default '{}',
    check ((status = 'completed') = (completed_at is not null))
);

create index data_loads_completed_at on data_loads (completed_at);

-- Loads follow one another: each week starts from what the one before has left.
create unique index data_loads_one_running on data_loads ((true)) where status = 'running';

-- Completed batches are chained by a number of their own. Neither ids nor times would do: a batch that failed completes after
-- later ones, and clocks are set back. The index is unique, so that the chain cannot fork.
create unique index data_loads_chain on data_loads (((metadata #>> '{audit,number}')::bigint)) where status = 'completed';

-- What each stage still has to do, however many batches are done.
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
    load_batch_id  bigint,  -- no foreign key: current_batch_id() has checked it, once per statement and not per row
    sample_rank    bigint,
    split          text not null,
    -- who did it: the login, not the owner under whose rights the trigger runs
    changed_by     text not null default session_user,
    application    text not null default current_setting('application_name'),
    transaction_id bigint not null default txid_current()
);

-- as-of reads: the newest entry of each product up to a watermark or a moment, from the index alone; and so is every
-- product that ever had a productid
create index products_history_product on products_history (product_id, history_id)
    include (productid, operation_date);
-- entries arrive in order of time and batch, so a block-range index costs next to nothing
create index products_history_date on products_history using brin (operation_date);
create index products_history_batch on products_history using brin (load_batch_id);
-- deletions are few: validation explains each missing row by its deletion
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
