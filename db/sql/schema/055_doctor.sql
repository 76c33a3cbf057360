-- What is wrong with the pipeline right now, each finding with its remedy. Empty when all is well.
-- `severity` is 'error' where something will not mend itself, 'warning' where it may or where somebody should know.
create function pipeline_doctor(patience interval default '5 minutes')
returns table (severity text, finding text, subject text, detail text, remedy text)
language sql stable
as $$
    with stages (stage) as (
        values ('snapshot'), ('training')
    ),
    -- listeners name their connections; pg_stat_activity shows the names to everybody
    listeners as (
        select stages.stage, count(pid) as connected
        from stages
        left join pg_catalog.pg_stat_activity as activity
            on activity.application_name = format('rakuten %s listen', stages.stage)
            and activity.datname = current_database()
        group by stages.stage
    ),
    progress as (
        select
            data_loads.batch_name,
            data_loads.id as batch_id,
            stages.stage,
            coalesce(metadata #>> array[stages.stage, 'state'], 'waiting') as state,
            metadata #>> array[stages.stage, 'error'] as error,
            metadata #>> array[stages.stage, 'worker'] as worker,
            coalesce(
                (metadata #>> array[stages.stage, 'retry_at'])::timestamptz,
                case stages.stage
                    when 'training' then (metadata #>> '{snapshot,finished_at}')::timestamptz
                    else completed_at
                end
            ) as ready_at,
            exists (
                select from pg_catalog.pg_locks
                where locktype = 'advisory'
                    and granted
                    and database = (select oid from pg_catalog.pg_database where datname = current_database())
                    and classid::bigint = public.stage_lock_class(stages.stage)
                    and objid::bigint = data_loads.id
            ) as held
        from public.data_loads
        cross join stages
        where status = 'completed'
            and (stages.stage = 'snapshot' or metadata #>> '{snapshot,state}' = 'finished')
    )
    select 'error', 'no listener', stage, format('nobody listens for %s', stage), format('rakuten listen %s', stage)
    from listeners
    where connected = 0

    union all
    select
        'error', 'stage given up', batch_name || ' ' || stage, error,
        format('mend the cause, then: rakuten retry --week %s', replace(batch_name, 'week_', ''))
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
        'warning', 'missed wake-up', batch_name || ' ' || stage,
        format('waits since %s', date_trunc('second', ready_at)),
        'the next poll finds it; the listener''s log tells why it did not hear the notification'
    from progress
    join listeners using (stage)
    where state = 'waiting' and ready_at < clock_timestamp() - patience and connected > 0

    union all
    select 'error', 'load failed', batch_name, metadata #>> '{load,error}', 'mend the cause, then: rakuten load'
    from public.data_loads
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
