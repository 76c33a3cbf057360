-- The functions with which the loader claims, fills and completes batches. The loader must call them, because it has no right
-- to write to the table data_loads, which holds one row for each batch.

-- Reject a login that is not a member of the role rakuten_<step>, for example rakuten_loader if the step is 'loader'.
create or replace function internal.require_role(step text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- session_user is the role that logged in. Do not use current_user: inside a SECURITY DEFINER function, it is the
    -- function's owner.
    if not pg_has_role(session_user, 'rakuten_' || step, 'member') then
        raise exception 'permission denied: the login % is not a member of the role rakuten_%', session_user, step
            using errcode = 'insufficient_privilege';
    end if;
end;
$$;

-- Claim a batch for a load, and return its id. The batch is new or failed, or it is 'running' but its loader was killed.
create or replace function internal.claim_batch(name text, percentage numeric, source jsonb) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    batch_id bigint;
begin
    perform internal.require_role('loader');
    -- If another session is loading this batch, it holds this row lock, which begin_batch took. In this case, fail at once
    -- (`nowait`). If this session waited until the other session has loaded the batch, it would load the batch a second time.
    perform from public.data_loads where batch_name = claim_batch.name for no key update nowait;
    insert into public.data_loads as batch (batch_name, percentage, metadata)
    values (claim_batch.name, claim_batch.percentage, jsonb_build_object('source', source))
    on conflict (batch_name) do update
        set status = 'running',
            percentage = excluded.percentage,
            started_at = clock_timestamp(),
            metadata = batch.metadata - 'load' || excluded.metadata
        where batch.status <> 'completed'
    returning batch.id into batch_id;
    if batch_id is null then
        raise exception 'batch % is complete already', quote_literal(name) using errcode = 'object_not_in_prerequisite_state';
    end if;
    return batch_id;
end;
$$;

-- Start working for a batch in this transaction: the audit triggers record every change of the transaction as a change by this
-- batch. The row lock on the batch shows that the loader is alive. PostgreSQL releases the lock when the loader is killed, and
-- then the batch can be claimed again.
create or replace function internal.begin_batch(batch_id bigint) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform internal.require_role('loader');
    perform from public.data_loads where id = batch_id and status = 'running' for no key update nowait;
    if not found then
        raise exception 'batch % is not running: claim it first', batch_id using errcode = 'object_not_in_prerequisite_state';
    end if;
    perform set_config('rakuten.batch_id', batch_id::text, true);
end;
$$;

-- Raise an error if the metadata of a batch makes the views pipeline_status and stage_ledger fail, for example because it has a
-- text where the views expect a number. Once committed, such metadata would break the views for everybody. The function is
-- volatile, so that it sees what its caller has just written.
create or replace function internal.require_readable(batch_id bigint) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform to_jsonb(line) from public.pipeline_status as line where line.batch_id = require_readable.batch_id;
    perform to_jsonb(line) from public.stage_ledger as line where line.batch_id = require_readable.batch_id;
end;
$$;

-- Record the result of a load in the row of its batch, under metadata -> load.
create or replace function internal.record_load(batch_id bigint, load jsonb) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform internal.require_role('loader');
    update public.data_loads
    set metadata = jsonb_set(metadata, '{load}', coalesce(metadata -> 'load', '{}') || load)
    where id = batch_id and status = 'running';
    perform internal.require_readable(batch_id);
end;
$$;

-- Mark a running batch as failed, and record the reason in its row, under metadata -> load -> error.
create or replace function internal.fail_batch(batch_id bigint, reason text) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform internal.require_role('loader');
    update public.data_loads
    set status = 'failed',
        metadata = jsonb_set(metadata, '{load}', coalesce(metadata -> 'load', '{}') || jsonb_build_object('error', reason))
    where id = batch_id and status = 'running';
end;
$$;

-- Complete a running batch. Do nothing if the batch is complete already, so that a loader may repeat the call.
create or replace function internal.complete_batch(batch_id bigint) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform internal.require_role('loader');
    update public.data_loads set status = 'completed' where id = batch_id and status = 'running';
    if not found and not exists (select from public.data_loads where id = batch_id and status = 'completed') then
        raise exception 'batch % is not running: cannot complete it', batch_id using errcode = 'object_not_in_prerequisite_state';
    end if;
end;
$$;

-- Update the planner's statistics of the four big tables. seal_batch calls this function, so the statistics of a batch are
-- committed together with its notification. Without them, or with those of a much smaller table, the planner may choose a plan
-- for a few rows, and autovacuum would analyze the tables only a minute later. ANALYZE reads a sample of 3,000 rows of each table
-- (300 for each unit of default_statistics_target) and only the columns of joins and conditions. This is enough for the planner
-- and keeps the load fast. Autovacuum still analyzes all columns later.
--
-- Another session may hold a lock on one of the tables, for example for VACUUM. The batch then gets no new statistics. It does
-- not fail, because the queries of the pipeline have a usable plan without them. The lock timeout is longer than
-- deadlock_timeout (1 s by default), after which PostgreSQL cancels an autovacuum that blocks another session.
create or replace function internal.analyze_tables() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set default_statistics_target = 10
set lock_timeout = '2s'
as $$
begin
    analyze public.products (id, productid, sample_rank, split);
    analyze public.labels (id, productid);
    analyze public.products_history (history_id, product_id, productid, sample_rank, split, operation_type, load_batch_id);
    analyze public.labels_history (history_id, label_id, productid, operation_type, load_batch_id);
exception when lock_not_available then
    raise warning 'no new statistics: another session has locked a table; to write them later, run ANALYZE';
end;
$$;

-- Seal a batch (add its digest and two watermarks) when any statement sets its status to 'completed'. The watermarks are the
-- highest ids in products_history and labels_history at this moment.
-- A history entry gets its id only while its transaction holds a ROW EXCLUSIVE lock on products or labels. LOCK TABLE waits for
-- every transaction that holds such a lock or completes a batch, and blocks new ones until this transaction commits. So no
-- history entry below a watermark can appear later.
-- If another transaction holds its lock for more than 30 s, lock_timeout makes the completion fail. The caller can then repeat
-- the completion.
create or replace function internal.seal_batch() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '30s'
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'complete a batch in READ COMMITTED: other isolation levels can miss rows of other sessions'
            using errcode = 'invalid_transaction_state';
    end if;
    lock table public.products, public.labels in share row exclusive mode;
    perform internal.analyze_tables();
    new.completed_at := clock_timestamp();
    new.total_rows := (select count(*) from public.products);
    new.metadata := new.metadata || jsonb_build_object('audit', jsonb_build_object(
        'number', 1 + coalesce((select max(chain_number) from public.batches where status = 'completed'), 0),
        'products_history_id', (select coalesce(max(history_id), 0) from public.products_history),
        'labels_history_id', (select coalesce(max(history_id), 0) from public.labels_history)
    ));
    new.metadata := jsonb_set(new.metadata, '{audit}', internal.audit_of(new));
    return new;
end;
$$;

-- Reject a change of a completed batch. The trigger _200_unchanged below calls this function and lists the columns that must
-- not change.
create or replace function internal.refuse_changing_batch() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'batch % is complete and cannot be changed', quote_literal(old.batch_name)
        using errcode = 'object_not_in_prerequisite_state';
end;
$$;

-- Each trigger tests its condition in WHEN, not in its function: a false WHEN condition takes only a hundredth of the time of a
-- function call. PostgreSQL tests the conditions also when a stage (snapshot or training) claims a batch, because the claim
-- updates `metadata`. The stage starts its work only after this update, so the update must be fast.
create or replace trigger _100_seal_insert before insert on data_loads
    for each row when (new.status = 'completed') execute function internal.seal_batch();
create or replace trigger _100_seal_update before update on data_loads
    for each row when (new.status = 'completed' and old.status <> 'completed') execute function internal.seal_batch();
create or replace trigger _200_unchanged before update on data_loads
    for each row when (
        old.status = 'completed'
        and (
            new.id, new.batch_name, new.percentage, new.total_rows, new.started_at, new.completed_at, new.status,
            new.metadata -> 'source', new.metadata -> 'load', new.metadata -> 'audit'
        ) is distinct from (
            old.id, old.batch_name, old.percentage, old.total_rows, old.started_at, old.completed_at, old.status,
            old.metadata -> 'source', old.metadata -> 'load', old.metadata -> 'audit'
        )
    ) execute function internal.refuse_changing_batch();

create or replace trigger _000_append_only before delete or truncate on data_loads
    for each statement execute function internal.refuse_rewriting_history();

alter table data_loads
    enable always trigger _000_append_only,
    enable always trigger _100_seal_insert,
    enable always trigger _100_seal_update,
    enable always trigger _200_unchanged;
