-- What Prometheus reads from PostgreSQL through the listeners (listeners/monitoring/), and the record of the verifications.

-- Record that `rakuten verify` has run, with the number of its checks and of those that found a change.
create or replace function internal.record_verification(checks integer, problems integer) returns void
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
    insert into public.verifications (verified_by, checks, problems)
    values (session_user, record_verification.checks, record_verification.problems)
$$;

-- Return the numbers of the pipeline: one row for each sample, with the name and the labels that Prometheus gives it. A number
-- that does not exist has no row, for example the F1 before the first model. `max_percentage` is the setting MAX_PERCENTAGE:
-- PostgreSQL does not know it, and without it the end of the weekly loads is unknown.
--
-- The function reads no big table: only the rows of the batches, and what the stages recorded in them. So a scrape costs
-- the same however many products there are. It runs with its owner's rights, because the role of the training listener may
-- read neither products nor sizes. It returns no text of a product, only counts.
--
-- The histograms are computed from the recorded times of all batches, so they survive the restart of a listener.
create or replace function internal.pipeline_metrics(max_percentage numeric)
returns table (name text, labels jsonb, value double precision)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    with stages (stage) as (values ('snapshot'), ('training')),
    ledger as materialized (
        select batch_id, stage, state, attempts, failures, outages, outage_since, ready_at, finished_at, ready_to_wake_s
        from public.stage_ledger
    ),
    latencies as materialized (
        select steps.name, seconds
        from (
            select
                max(ready_to_wake_s) filter (where stage = 'snapshot') as wake_s,
                max(ready_at) filter (where stage = 'snapshot') as completed_at,
                max(finished_at) filter (where stage = 'snapshot' and state = 'finished') as dataset_at,
                max(finished_at) filter (where stage = 'training' and state = 'finished') as model_at
            from ledger
            group by batch_id
        ) as times
        cross join lateral (
            values
                ('rakuten_commit_to_wake_seconds', wake_s),
                ('rakuten_commit_to_dataset_seconds', extract(epoch from dataset_at - completed_at)),
                ('rakuten_commit_to_model_seconds', extract(epoch from model_at - completed_at))
        ) as steps (name, seconds)
        where seconds is not null
    ),
    bounds (name, upper_bounds) as (
        values
            ('rakuten_commit_to_wake_seconds', array[0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300]),
            ('rakuten_commit_to_dataset_seconds', array[0.5, 1, 5, 15, 30, 60, 120, 300, 600, 1800]),
            ('rakuten_commit_to_model_seconds', array[1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200])
    ),
    last_week as (
        select completed_at, target_rows
        from public.batches
        where status = 'completed' and kind = 'week'
        order by chain_number desc
        limit 1
    ),
    last_dataset as materialized (
        select dataset
        from public.batches
        where status = 'completed' and dataset is not null
        order by chain_number desc
        limit 1
    ),
    last_models as materialized (
        select chain_number, model
        from public.batches
        where status = 'completed' and model is not null
        order by chain_number desc
        limit 3
    ),
    last_model as (select model from last_models order by chain_number desc limit 1),
    champion as materialized (
        select version, champion.batch_name, model
        from public.champion
        left join public.batches on batches.id = champion.batch_id
        where version is not null
    ),
    -- Of the last week, because a correction has no drift: it must not end the alert of the week before it. A model and a
    -- dataset have other features.
    drift as (
        select entry ->> 'feature' as feature, entry ->> 'reference' as reference, entry -> 'drifted' = 'true' as drifted
        from (
            (
                select dataset as result
                from public.batches
                where status = 'completed' and kind = 'week' and dataset is not null
                order by chain_number desc
                limit 1
            )
            union all
            (
                select model
                from public.batches
                where status = 'completed' and kind = 'week' and model is not null
                order by chain_number desc
                limit 1
            )
        ) as results
        cross join lateral jsonb_path_query(result, '$.drift[*]', silent => true) as entry
    ),
    sessions as (
        select stages.stage, pid, extract(epoch from clock_timestamp() - last_sign_of_life) as silent_s
        from stages
        left join internal.listener_sessions() as sessions using (stage)
    )
    select
        'rakuten_oldest_waiting_seconds', jsonb_build_object('stage', stages.stage),
        coalesce(extract(epoch from greatest(max(clock_timestamp() - ready_at), '0')), 0)
    from stages
    left join ledger on ledger.stage = stages.stage and state in ('waiting', 'running') and ready_at is not null
    group by stages.stage

    union all
    select 'rakuten_batches', jsonb_build_object('stage', states.stage, 'state', states.state), count(counted.stage)
    from (
        values
            ('load', 'running'), ('load', 'completed'), ('load', 'failed'),
            ('snapshot', 'waiting'), ('snapshot', 'running'), ('snapshot', 'finished'), ('snapshot', 'failed'),
            ('training', 'waiting'), ('training', 'running'), ('training', 'finished'), ('training', 'failed')
    ) as states (stage, state)
    left join (
        select stage, state from ledger union all select 'load', status from public.data_loads
    ) as counted on counted.stage = states.stage and counted.state = states.state
    group by states.stage, states.state

    union all
    select
        bounds.name || '_bucket', jsonb_build_object('le', upper_bound::text),
        (select count(*) from latencies where latencies.name = bounds.name and seconds <= upper_bound)
    from bounds
    cross join unnest(upper_bounds) as upper_bound

    union all
    select bounds.name || suffix, labels, value
    from (
        select bounds.name, count(seconds) as steps, coalesce(sum(seconds), 0) as seconds
        from bounds
        left join latencies using (name)
        group by bounds.name
    ) as bounds
    cross join lateral (
        values ('_bucket', '{"le": "+Inf"}'::jsonb, steps), ('_count', '{}', steps), ('_sum', '{}', seconds)
    ) as totals (suffix, labels, value)

    union all
    select counts.name, jsonb_build_object('stage', sums.stage), value
    from (
        select
            stages.stage,
            coalesce(sum(attempts), 0) as attempts,
            coalesce(sum(failures), 0) as failures,
            coalesce(sum(outages), 0) as outages,
            coalesce(extract(epoch from greatest(max(clock_timestamp() - outage_since), '0')), 0) as outage_s
        from stages
        left join ledger using (stage)
        group by stages.stage
    ) as sums
    cross join lateral (
        values
            ('rakuten_attempts', attempts), ('rakuten_failures', failures), ('rakuten_outages', outages),
            ('rakuten_outage_seconds', outage_s)
    ) as counts (name, value)

    union all
    select 'rakuten_listeners', jsonb_build_object('stage', stage), count(pid) from sessions group by stage

    union all
    select 'rakuten_listener_silent_seconds', jsonb_build_object('stage', stage), greatest(max(silent_s), 0)
    from sessions
    where pid is not null
    group by stage

    union all
    select 'rakuten_last_load_timestamp_seconds', '{}', extract(epoch from completed_at) from last_week

    union all
    select 'rakuten_rows', '{}', target_rows from last_week where target_rows is not null

    union all
    (
        select 'rakuten_target_rows', '{}', floor(total_rows::numeric * max_percentage / 100)
        from (select first_source from public.batches limit 1) as any_batch
        cross join lateral jsonb_path_query(
            first_source, '$.total_rows ? (@.type() == "number")', silent => true
        ) as total_rows
    )

    union all
    select 'rakuten_model_f1', jsonb_build_object('which', which, 'bound', bound), (model ->> key)::double precision
    from (select 'last' as which, model from last_model union all select 'champion', model from champion) as models
    cross join lateral (
        values ('value', 'f1_score'), ('low', 'f1_score_ci_low'), ('high', 'f1_score_ci_high')
    ) as bounds (bound, key)
    where model ->> key is not null

    union all
    select 'rakuten_champion_version', jsonb_build_object('batch', coalesce(batch_name, 'unknown')), version from champion

    union all
    select
        'rakuten_models_worse_than_champion', '{}',
        count(*) filter (
            where (last_models.model ->> 'f1_score_ci_high')::double precision < (champion.model ->> 'f1_score')::double precision
        )
    from champion
    left join last_models on true

    union all
    select
        'rakuten_class_share', jsonb_build_object('prdtypecode', class ->> 'key'),
        (class ->> 'value')::numeric / nullif(sum((class ->> 'value')::numeric) over (), 0)
    from last_dataset
    cross join lateral jsonb_path_query(
        dataset, '$.classes.keyvalue() ? (@.value.type() == "number")', silent => true
    ) as class

    union all
    select 'rakuten_drifted', jsonb_build_object('feature', feature, 'reference', reference), bool_or(drifted)::integer
    from drift
    where feature is not null and reference is not null
    group by feature, reference

    union all
    select verified.name, '{}', value
    from (select verified_at, problems from public.verifications order by id desc limit 1) as last_verification
    cross join lateral (
        values
            ('rakuten_verification_timestamp_seconds', extract(epoch from verified_at)),
            ('rakuten_verification_problems', problems)
    ) as verified (name, value)

    union all
    select 'rakuten_notification_queue_ratio', '{}', pg_notification_queue_usage()

    union all
    select servers.name, '{}', value
    from (
        select count(*) as connected, count(refused_version) as refusing from internal.model_server_sessions()
    ) as sessions
    cross join lateral (
        values ('rakuten_model_servers', connected), ('rakuten_model_servers_refusing', refusing)
    ) as servers (name, value)
$$;

-- Return the bytes of the pipeline's data, in the form of pipeline_metrics(). It is a function of its own, because it reads what
-- each stage of each batch recorded about its files, and sizes change slowly: a listener calls it every few minutes, not in each
-- scrape.
create or replace function internal.storage_metrics() returns table (name text, labels jsonb, value double precision)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select sizes.name, jsonb_build_object('kind', kind, 'object', object), value
    from public.storage_growth
    cross join lateral (
        values ('rakuten_storage_bytes', bytes), ('rakuten_storage_bytes_per_week', bytes_per_week)
    ) as sizes (name, value)
    where value is not null
$$;
