-- Return the connections of the snapshot and training listeners to this database, with the time when each connection last
-- changed its state. A listener's ping every few seconds changes the state, so an old time means that the listener is
-- unresponsive.
--
-- PostgreSQL shows this time for another role's connection only to members of pg_read_all_stats. The owner of this function is
-- a member, and the function runs with its owner's rights, so every role that calls the function sees the time. No other role
-- of the pipeline is a member, because a member can also read all statements of the whole cluster.
create or replace function internal.listener_sessions() returns table (stage text, pid integer, last_sign_of_life timestamptz)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select split_part(application_name, ' ', 2), pid, state_change
    from pg_catalog.pg_stat_activity
    where datname = current_database() and application_name in ('rakuten snapshot listen', 'rakuten training listen')
$$;

-- Return when the worker that holds the claim of a stage on a batch last renewed the claim, or null if nobody holds it. A worker
-- renews its claim every few seconds while its child process makes progress. So an old time means that the work stands still.
--
-- The worker renews the claim in the session that holds the claim's lock, and every statement changes the session's state. As in
-- listener_sessions(), the function runs with its owner's rights, because PostgreSQL shows this time only to some roles.
create or replace function internal.claim_renewed_at(batch_id bigint, stage text) returns timestamptz
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select max(sessions.state_change)
    from pg_catalog.pg_locks as locks
    join pg_catalog.pg_stat_activity as sessions using (pid)
    where locks.locktype = 'advisory'
        and locks.granted
        and locks.database = (select oid from pg_catalog.pg_database where datname = current_database())
        and locks.classid::bigint = internal.stage_lock_class(stage)
        and locks.objid::bigint = batch_id
$$;

-- Return what is wrong with the pipeline right now: one row per problem, with its remedy. Return no row if nothing is wrong.
-- `severity` is 'error' for a problem that does not go away by itself. It is 'warning' for a problem that may go away by itself
-- or that needs no action.
-- The function reports a batch that waits, or a load that runs, for longer than `patience`. It reports a stage that works on
-- one batch for longer than twelve times `patience`. Listeners ping PostgreSQL every few seconds. The function reports a
-- listener whose connection is silent for longer than `unresponsive_after`. It also reports a batch whose claim was not renewed
-- for so long; after `patience`, this is an error, because the listener should have ended the work by itself.
create or replace function pipeline_doctor(
    patience interval default '5 minutes', unresponsive_after interval default '30 seconds'
) returns table (severity text, finding text, subject text, detail text, remedy text)
language sql stable
as $$
    with stages (stage) as (values ('snapshot'), ('training')),
    listeners as (
        select
            stages.stage,
            count(pid) as connected,
            count(pid) filter (where last_sign_of_life < clock_timestamp() - unresponsive_after) as unresponsive,
            min(last_sign_of_life) as last_sign_of_life
        from stages
        left join internal.listener_sessions() as sessions using (stage)
        group by stages.stage
    ),
    progress as (
        select * from public.stage_ledger where ready_at is not null
    )
    select 'error', 'no listener', stage, format('no %s listener is connected', stage), format('run: rakuten listen %s', stage)
    from listeners
    where connected = 0

    union all
    select
        'error', 'unresponsive listener', stage,
        format('%s of %s connections silent, since %s', unresponsive, connected, date_trunc('second', last_sign_of_life)),
        format('the process is frozen or has lost its connection: restart it (rakuten listen %s); replicas continue', stage)
    from listeners
    where unresponsive > 0

    union all
    select
        'error', 'model server refuses the champion', format('version %s', refused_version),
        format('process %s still serves %s', pid, coalesce('version ' || version, 'no model')),
        'its log says why; rakuten verify shows what was changed, and rakuten rollback makes an earlier version champion'
    from public.model_servers
    where refused_version is not null

    union all
    select
        'error', 'unresponsive model server', format('process %s', pid),
        format('silent since %s', date_trunc('second', last_sign_of_life)),
        'the server is frozen or has lost its connection: restart it (rakuten serve); replicas continue'
    from public.model_servers
    where last_sign_of_life < clock_timestamp() - unresponsive_after

    union all
    select
        'warning', 'model server serves another version', format('process %s', pid),
        format(
            '%s, but version %s is champion since %s',
            coalesce('version ' || servers.version, 'no model'), champion.version, date_trunc('second', moved_at)
        ),
        'its log says what it waits for: MLflow, or the record of the training stage'
    from public.model_servers as servers
    cross join public.champion
    where refused_version is null
        and servers.version is distinct from champion.version
        and moved_at < clock_timestamp() - patience

    union all
    select
        'error', 'stage given up', batch_name || ' ' || stage, error,
        format('fix the cause, then run: rakuten retry --batch %s', batch_name)
    from progress
    where state = 'failed'

    union all
    select
        'warning', 'stage fails', batch_name || ' ' || stage, format('%s failures so far, the last: %s', failures, error),
        'the listener''s log has the traceback; fix the cause before the stage gives the batch up (MAX_ATTEMPTS)'
    from progress
    where state in ('waiting', 'running') and failures > 0 and outage_since is null

    union all
    select
        'warning', 'claim without a worker', batch_name || ' ' || stage, format('worker %s has ended or lost its connection', worker),
        'another worker claims the batch within a second of its next poll; if no listener runs, start one'
    from progress
    where state = 'running' and not held

    union all
    select
        case when renewed_at < clock_timestamp() - patience then 'error' else 'warning' end,
        'work without progress', batch_name || ' ' || stage,
        format('worker %s has shown no progress since %s', worker, date_trunc('second', renewed_at)),
        'the listener ends the work after STALL_TIMEOUT_S (ten times that if it only waits) and tries again; if it does not, restart it'
    from progress
    cross join lateral internal.claim_renewed_at(batch_id, stage) as renewed_at
    where state = 'running' and held and renewed_at < clock_timestamp() - unresponsive_after

    union all
    select
        'warning', 'stage takes long', batch_name || ' ' || stage,
        format('worker %s has been working since %s', worker, date_trunc('second', claimed_at)),
        'look at the listener''s log; if the listener is stuck, restart it: a worker then claims the batch again'
    from progress
    where state = 'running' and held and claimed_at < clock_timestamp() - 12 * patience

    union all
    select
        'error', 'outage', batch_name || ' ' || stage,
        format('since %s: %s', date_trunc('second', outage_since), error),
        'restore the service, or free disk space; the stage then continues by itself within seconds'
    from progress
    where state in ('waiting', 'running') and outage_since is not null

    union all
    select
        'warning', 'missed wake-up', batch_name || ' ' || stage,
        format('waiting since %s', date_trunc('second', coalesce(retry_at, ready_at))),
        'the next poll finds the batch; the listener''s log says why the notification did not arrive'
    from progress
    join listeners using (stage)
    where state = 'waiting' and coalesce(retry_at, ready_at) < clock_timestamp() - patience and connected > 0

    union all
    select 'error', 'load failed', batch_name, load_error, 'fix the cause, then run: rakuten load'
    from public.batches
    where status = 'failed'

    union all
    select
        'warning', 'load not finished', batch_name, format('running since %s', date_trunc('second', started_at)),
        'if its loader was killed, run: rakuten load (it claims the batch again)'
    from public.data_loads
    where status = 'running' and started_at < clock_timestamp() - patience

    union all
    select
        'error', 'notification queue fills up', format('%s %% full', round(100 * usage)),
        'a session that listens keeps a transaction open, so PostgreSQL cannot shorten the queue',
        'find and end it: select pid, application_name, xact_start from pg_stat_activity where state like ''idle in transaction%'''
    from (select pg_notification_queue_usage()::numeric as usage) as queue
    where usage > 0.1

    union all
    select
        'warning', 'changes outside any batch', format('%s of products, %s of labels', of_products, of_labels),
        format('last change by %s', last_by),
        'the next batch includes them; to see them: select * from products_history where load_batch_id is null'
    from (
        select
            (select count(*) from public.products_history where load_batch_id is null) as of_products,
            (select count(*) from public.labels_history where load_batch_id is null) as of_labels,
            (
                select changed_by
                from public.products_history
                where load_batch_id is null
                order by history_id desc
                limit 1
            ) as last_by
    ) as outside
    where of_products + of_labels > 0

    union all
    select
        'error', 'history does not match the ' || table_name, format('%s %s', count(*), table_name),
        format('the lowest productid is %s', min(productid)),
        'somebody bypassed the audit triggers: restore a backup, or record the difference by correcting the products'
    from internal.unrecorded_changes()
    group by table_name

    union all
    select
        'error', 'products without a label', format('%s products', count(*)),
        format('the lowest productid is %s', min(productid)),
        'no dataset contains them: insert the labels, or delete the products'
    from public.products
    left join public.labels using (productid)
    where labels.productid is null and sample_rank is not null
    having count(*) > 0
$$;
