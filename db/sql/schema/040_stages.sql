-- The work queue of the two stages: metadata -> snapshot and metadata -> training of each completed batch.
--
--   (absent) -> running -> finished
--                 | ^         |
--                 v |         |  (its run is gone from MLflow: reopen_stage)
--              waiting <------'
--                 |
--                 '-> failed   (the batch's own fault, too often: for good, until retry_stage)
--
-- A batch waits with a `retry_at` after a failure, of which it has max_attempts, and after an outage (MLflow away, disk
-- full), which is nobody's fault and is waited out however long it lasts.
--
-- A worker holds the advisory lock of (stage, batch) on its session while it works, so a dead worker's claim is free
-- at once. Every claim draws a new attempt number, and whoever records anything must name the newest: a worker that
-- lost its lock and comes back is fenced off.

create or replace function require_stage(stage text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if stage is null or stage not in ('snapshot', 'training') then
        raise exception 'unknown stage: %', quote_nullable(stage) using errcode = 'invalid_parameter_value';
    end if;
    perform public.require_role(stage);
end;
$$;

-- The lock's two integers: 'snap' and 'trai' as the class, the batch as the object.
create or replace function stage_lock_class(stage text) returns integer
language sql immutable
return case stage when 'snapshot' then 1936613744 when 'training' then 1953653097 end;

-- When a batch may be worked on, as seen at a moment. One that lies ahead is waited for only if it was set before that moment: a
-- clock that is set back must hold up nothing.
create or replace function ready_at(record jsonb, completed_at timestamptz, seen_at timestamptz) returns timestamptz
language sql stable
return case
    when (record ->> 'retry_at')::timestamptz is null then least(completed_at, seen_at)
    when seen_at < greatest((record ->> 'failed_at')::timestamptz, (record ->> 'postponed_at')::timestamptz) then seen_at
    else (record ->> 'retry_at')::timestamptz
end;

-- What waits for a stage, oldest first. `ready_at` lies in the future while a failure or an outage backs off.
-- A branch for each stage, so that each reads its partial index: however many batches are done, looking costs the same.
-- No SET clause, so that the planner inlines it into the functions that look.
create or replace function pending_batches(stage text)
returns table (batch_id bigint, batch_name text, state text, attempt integer, failures integer, ready_at timestamptz)
language sql stable
as $$
    select
        id,
        data_loads.batch_name,
        coalesce(record ->> 'state', 'waiting'),
        coalesce((record ->> 'attempt')::integer, 0),
        coalesce((record ->> 'failures')::integer, 0),
        public.ready_at(record, completed_at, now())
    from (
        select id, data_loads.batch_name, completed_at, metadata -> 'snapshot' as record
        from public.data_loads
        where stage = 'snapshot'
            and status = 'completed'
            and metadata #>> '{snapshot,state}' is distinct from 'finished'
        union all
        select id, data_loads.batch_name, completed_at, metadata -> 'training' as record
        from public.data_loads
        where stage = 'training'
            and status = 'completed'
            and metadata #>> '{training,state}' is distinct from 'finished'
            and metadata #>> '{snapshot,state}' = 'finished'
    ) as data_loads
    where record ->> 'state' is distinct from 'failed'
    order by id
$$;

create index if not exists data_loads_pending_snapshot on data_loads (id)
    where status = 'completed' and metadata #>> '{snapshot,state}' is distinct from 'finished';
create index if not exists data_loads_pending_training on data_loads (id)
    where status = 'completed' and metadata #>> '{training,state}' is distinct from 'finished';

-- Claim a batch: the attempt number, or null when another session works on it or nothing is left to do.
-- `waited` is the time since the worker woke, so that all recorded times are of one clock, the server's.
create or replace function claim_stage(batch_id bigint, stage text, worker text, wake text, waited interval) returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    next_attempt integer;
    moment       timestamptz;
begin
    perform public.require_stage(stage);
    if not pg_try_advisory_lock(public.stage_lock_class(stage), batch_id::integer) then
        return null;
    end if;
    -- Whoever recorded an outcome has released the advisory lock before the commit. So the moment is later than any of theirs, and
    -- the UPDATE waits for the commit and asks its conditions again: they are of this one row.
    moment := clock_timestamp();
    update public.data_loads
    set metadata = jsonb_set(metadata, array[stage], coalesce(metadata -> stage, '{}') - 'retry_at' || jsonb_build_object(
        'state', 'running',
        'attempt', coalesce((metadata #>> array[stage, 'attempt'])::integer, 0) + 1,
        'worker', worker,
        'wake', wake,
        'woken_at', moment - waited,
        'claimed_at', moment
    ))
    where id = batch_id
        and status = 'completed'
        and coalesce(metadata #>> array[stage, 'state'], 'waiting') in ('waiting', 'running')
        and (stage = 'snapshot' or metadata #>> '{snapshot,state}' = 'finished')
        and public.ready_at(metadata -> stage, completed_at, moment) <= moment
    returning (metadata #>> array[stage, 'attempt'])::integer into next_attempt;
    if next_attempt is null then
        perform pg_advisory_unlock(public.stage_lock_class(stage), batch_id::integer);
    end if;
    return next_attempt;
end;
$$;

-- Claim the oldest batch that is ready and that nobody works on; no row when there is none. With it comes the batch as its
-- OpenLineage events describe it: the claim is on the path from a commit to the work, and another question would be, too.
-- `notified`: the seconds since the notification that named a batch, by batch id; others are found by what `wake` says.
-- Planned once, as looking takes less time than planning, and for an index scan. The planner takes nearly every batch for pending
-- and would rather read the table, or by a bitmap scan all that was pending since the last vacuum; an index scan remembers the
-- entries that it found dead.
create or replace function claim_next(stage text, worker text, wake text, waited interval, notified jsonb)
returns table (
    batch_id bigint, batch_name text, attempt integer, failures integer, wake_source text,
    started_at timestamptz, completed_at timestamptz, total_rows bigint, metadata jsonb
)
language plpgsql security definer rows 1
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
    pending record;
    heard   interval;
begin
    for pending in
        select * from public.pending_batches(stage) as waiting where waiting.ready_at <= clock_timestamp()
    loop
        heard := make_interval(secs => (notified ->> pending.batch_id::text)::double precision);
        attempt := public.claim_stage(
            pending.batch_id, stage, worker, case when heard is null then wake else 'notify' end, coalesce(heard, waited)
        );
        if attempt is not null then
            batch_id := pending.batch_id;
            batch_name := pending.batch_name;
            wake_source := case when heard is null then wake else 'notify' end;
            select batch.started_at, batch.completed_at, batch.total_rows, batch.metadata
            into started_at, completed_at, total_rows, metadata
            from public.data_loads as batch
            where batch.id = pending.batch_id;
            failures := coalesce((metadata #>> array[stage, 'failures'])::integer, 0);
            return next;
            return;
        end if;
    end loop;
end;
$$;

-- Is this attempt still the newest and unfinished? Asked before anything is published.
create or replace function holds_stage(batch_id bigint, stage text, attempt integer) returns boolean
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from public.data_loads
        where id = batch_id
            and metadata #>> array[stage, 'state'] = 'running'
            and (metadata #>> array[stage, 'attempt'])::integer = attempt
    )
$$;

-- Keep a claim alive from whatever session its worker has now: a lost connection has dropped the lock, so take it again.
-- False: the attempt is fenced, or another session was faster.
create or replace function hold_stage(batch_id bigint, stage text, attempt integer) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform public.require_stage(stage);
    if not public.holds_stage(batch_id, stage, attempt) then
        return false;
    end if;
    return public.holds_stage_lock(batch_id, stage)
        or pg_try_advisory_lock(public.stage_lock_class(stage), batch_id::integer);
end;
$$;

create or replace function holds_stage_lock(batch_id bigint, stage text) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from pg_catalog.pg_locks
        where locktype = 'advisory' and pid = pg_backend_pid() and granted
            and classid::bigint = public.stage_lock_class(stage) and objid::bigint = batch_id
    )
$$;

create or replace function record_stage(batch_id bigint, stage text, attempt integer, entry jsonb) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform public.require_stage(stage);
    update public.data_loads
    set metadata = jsonb_set(metadata, array[stage], metadata -> stage || entry)
    where id = batch_id
        and metadata #>> array[stage, 'state'] = 'running'
        and (metadata #>> array[stage, 'attempt'])::integer = attempt;
    if not found then
        raise exception 'attempt % of % on batch % is fenced: another worker has claimed it since', attempt, stage, batch_id
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    while public.holds_stage_lock(batch_id, stage) loop  -- a session may have taken its own lock twice
        perform pg_advisory_unlock(public.stage_lock_class(stage), batch_id::integer);
    end loop;
end;
$$;

-- Record the result and ring the next stage's doorbell, in one transaction.
create or replace function finish_stage(batch_id bigint, stage text, attempt integer, result jsonb) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform public.record_stage(batch_id, stage, attempt, jsonb_build_object(
        'state', 'finished', 'finished_at', clock_timestamp(), 'error', null, 'outage_since', null, 'result', result
    ));
    perform public.require_readable(batch_id);
    perform pg_notify(
        case stage when 'snapshot' then 'dataset_ready' else 'model_trained' end,
        jsonb_build_object('v', 1, 'batch_id', batch_id, 'run_id', result ->> 'run_id')::text
    );
end;
$$;

-- Record a failure: try again after `backoff`, or, when it is null, give up until retry_stage.
create or replace function fail_stage(batch_id bigint, stage text, attempt integer, error text, backoff interval) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform public.record_stage(batch_id, stage, attempt, jsonb_build_object(
        'state', case when backoff is null then 'failed' else 'waiting' end,
        'failures', coalesce((
            select (metadata #>> array[stage, 'failures'])::integer from public.data_loads where id = batch_id
        ), 0) + 1,
        'failed_at', clock_timestamp(),
        'retry_at', clock_timestamp() + backoff,
        'outage_since', null,
        'error', error
    ));
    if backoff is null then
        perform pg_notify('stage_failed', jsonb_build_object(
            'v', 1, 'batch_id', batch_id, 'stage', stage, 'attempt', attempt
        )::text);
    end if;
end;
$$;

-- Wait out an outage: no failure of the batch, so it never gives up. The delay doubles from `first` up to `longest`.
create or replace function postpone_stage(
    batch_id bigint, stage text, attempt integer, reason text, first interval, longest interval
) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    record  jsonb := (select metadata -> stage from public.data_loads where id = batch_id);
    lasting boolean := record ->> 'outage_since' is not null;
    -- how often in a row, which the total does not tell
    in_a_row integer := case when lasting then coalesce((record ->> 'outages_in_a_row')::integer, 0) + 1 else 1 end;
begin
    perform public.record_stage(batch_id, stage, attempt, jsonb_build_object(
        'state', 'waiting',
        'outages', coalesce((record ->> 'outages')::integer, 0) + 1,
        'outages_in_a_row', in_a_row,
        'outage_since', coalesce((record ->> 'outage_since')::timestamptz, clock_timestamp()),
        'postponed_at', clock_timestamp(),
        'retry_at', clock_timestamp() + least(first * 2 ^ least(in_a_row - 1, 30), longest),
        'error', reason
    ));
end;
$$;

-- Open a finished stage again whose run MLflow no longer has: it is built once more, to the same bytes. True when it was.
create or replace function reopen_stage(batch_id bigint, stage text, run_id text, reason text) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform public.require_stage(stage);
    update public.data_loads
    set metadata = jsonb_set(metadata, array[stage], (metadata -> stage) - 'result' || jsonb_build_object(
        'state', 'waiting', 'failures', 0, 'reopened_at', clock_timestamp(), 'error', reason
    ))
    where id = batch_id
        and metadata #>> array[stage, 'state'] = 'finished'
        and metadata #>> array[stage, 'result', 'run_id'] = run_id;  -- and not one that was recorded meanwhile
    if not found then
        return false;
    end if;
    perform public.ring_stage(batch_id, stage);
    return true;
end;
$$;

-- Hand a claim back unfinished (SIGTERM): no failure, and another worker may take it up at once.
create or replace function release_stage(batch_id bigint, stage text, attempt integer) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform public.record_stage(batch_id, stage, attempt, jsonb_build_object('state', 'waiting'));
    perform public.ring_stage(batch_id, stage);
end;
$$;

create or replace function ring_stage(batch_id bigint, stage text) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    select case stage
        when 'snapshot' then pg_notify('batch_completed', jsonb_build_object('v', 1, 'batch_id', batch_id)::text)
        else pg_notify('dataset_ready', jsonb_build_object(
            'v', 1, 'batch_id', batch_id,
            'run_id', (select metadata #>> '{snapshot,result,run_id}' from public.data_loads where id = batch_id)
        )::text)
    end
$$;

-- Revive a stage that gave up. True when there was something to revive.
create or replace function retry_stage(batch_id bigint, stage text) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform public.require_stage(stage);
    update public.data_loads
    set metadata = jsonb_set(metadata, array[stage], metadata -> stage || '{"state": "waiting", "failures": 0, "retry_at": null}')
    where id = batch_id and metadata #>> array[stage, 'state'] = 'failed';
    if not found then
        return false;
    end if;
    perform public.ring_stage(batch_id, stage);
    return true;
end;
$$;
