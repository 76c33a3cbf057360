-- The listeners' connections to this database, and when each last said anything; a listener pings every few seconds.
-- The names of connections are everybody's to see, the time of their last statement only for members of pg_read_all_stats,
-- which the owner of this function is. That role sees all statements of the whole cluster, so nobody else is a member.
create or replace function listener_sessions() returns table (stage text, pid integer, last_sign_of_life timestamptz)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select split_part(application_name, ' ', 2), pid, state_change
    from pg_catalog.pg_stat_activity
    where datname = current_database() and application_name in ('rakuten snapshot listen', 'rakuten training listen')
$$;

-- What is wrong with the pipeline right now, each finding with its remedy. Empty when all is well.
-- `severity` is 'error' where something will not mend itself, 'warning' where it may or where somebody should know.
-- `patience`: how long a batch may wait or a load may run before that is remarkable; a stage may take twelve times as long.
-- `deaf_after`: how old the last sign of life of a listening connection may be; a listener pings every few seconds.
create or replace function pipeline_doctor(
    patience interval default '5 minutes', deaf_after interval default '30 seconds'
) returns table (severity text, finding text, subject text, detail text, remedy text)
language sql stable
as $$
    with stages (stage) as (
        values ('snapshot'), ('training')
    ),
    listeners as (
        select
            stages.stage,
            count(pid) as connected,
            count(pid) filter (where last_sign_of_life < clock_timestamp() - deaf_after) as deaf,
            min(last_sign_of_life) as last_sign_of_life
        from stages
        left join public.listener_sessions() as sessions using (stage)
        group by stages.stage
    ),
    progress as (
        select * from public.stage_ledger where ready_at is not null
    )
    select 'error', 'no listener', stage, format('nobody listens for %s', stage), format('rakuten listen %s', stage)
    from listeners
    where connected = 0

    union all
    select
        'error', 'deaf listener', stage,
        format('%s of %s gave no sign of life since %s', deaf, connected, date_trunc('second', last_sign_of_life)),
        format('its process is frozen or cut off: restart it (rakuten listen %s); another replica goes on meanwhile', stage)
    from listeners
    where deaf > 0

    union all
    select
        'error', 'stage given up', batch_name || ' ' || stage, error,
        format('mend the cause, then: rakuten retry --batch %s', batch_name)
    from progress
    where state = 'failed'

    union all
    select
        'warning', 'claim without a worker', batch_name || ' ' || stage, format('%s is gone', worker),
        'another worker takes it up within a second of looking; none looks if no listener runs'
    from progress
    where state = 'running' and not held

    union all
    select
        'warning', 'stage takes long', batch_name || ' ' || stage,
        format('%s is at work since %s', worker, date_trunc('second', claimed_at)),
        'look at the listener''s log; if it is stuck, restart it: the batch is taken up again'
    from progress
    where state = 'running' and held and claimed_at < clock_timestamp() - 12 * patience

    union all
    select
        'error', 'outage', batch_name || ' ' || stage,
        format('since %s: %s', date_trunc('second', outage_since), error),
        'bring the service back, or free the disk; the stage goes on by itself within seconds'
    from progress
    where state in ('waiting', 'running') and outage_since is not null

    union all
    select
        'warning', 'missed wake-up', batch_name || ' ' || stage,
        format('waits since %s', date_trunc('second', coalesce(retry_at, ready_at))),
        'the next poll finds it; the listener''s log tells why it did not hear the notification'
    from progress
    join listeners using (stage)
    where state = 'waiting' and coalesce(retry_at, ready_at) < clock_timestamp() - patience and connected > 0

    union all
    select 'error', 'load failed', batch_name, load_error, 'mend the cause, then: rakuten load'
    from public.batches
    where status = 'failed'

    union all
    select
        'warning', 'load not finished', batch_name, format('running since %s', date_trunc('second', started_at)),
        'if its loader was killed: rakuten load takes it up again'
    from public.data_loads
    where status = 'running' and started_at < clock_timestamp() - patience

    union all
    select
        'error', 'notification queue fills up', format('%s %% full', round(100 * usage)),
        'a session that listens sits in an open transaction, and the queue cannot be trimmed',
        'select pid, application_name, xact_start from pg_stat_activity where state like ''idle in transaction%'''
    from (select pg_notification_queue_usage()::numeric as usage) as queue
    where usage > 0.1

    union all
    select
        'warning', 'changes outside any batch', format('%s of products, %s of labels', of_products, of_labels),
        format('last by %s', last_by),
        'they are recorded, and part of the next batch; select * from products_history where load_batch_id is null'
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
        'error', 'history does not match the products', format('%s products', count(distinct productid)),
        format('productid %s first', min(productid)),
        'somebody wrote around the triggers: restore a backup, or record the difference by correcting the products'
    from (
        (
            select id, productid, designation, description, imageid, image_path, sample_rank, split from public.products
            except
            select id, productid, designation, description, imageid, image_path, sample_rank, split
            from public.products_as_of('infinity')
        )
        union all
        (
            select id, productid, designation, description, imageid, image_path, sample_rank, split
            from public.products_as_of('infinity')
            except
            select id, productid, designation, description, imageid, image_path, sample_rank, split from public.products
        )
    ) as difference
    having count(*) > 0

    union all
    select
        'error', 'products without a label', format('%s products', count(*)), format('productid %s first', min(productid)),
        'they enter no dataset: insert the labels, or delete the products'
    from public.products
    left join public.labels using (productid)
    where labels.productid is null and sample_rank is not null
    having count(*) > 0
$$;
