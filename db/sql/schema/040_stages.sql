-- The work queue of the two stages: metadata -> snapshot and metadata -> training of each completed batch.
--
--   (absent) -> running -> finished
--                 | ^
--                 v |
--              waiting  -> ... -> failed   (for good, until retry_stage)
--
-- A worker holds the advisory lock of (stage, batch) on its session while it works, so a dead worker's claim is free
-- at once. Every claim draws a new attempt number, and whoever records anything must name the newest: a worker that
-- lost its lock and comes back is fenced off.

create function require_stage(stage text) returns void
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
create function stage_lock_class(stage text) returns integer
language sql immutable
return case stage when 'snapshot' then 1936613744 when 'training' then 1953653097 end;

-- What waits for a stage, oldest first. `ready_at` lies in the future while a failure backs off.
create function pending_batches(stage text)
returns table (batch_id bigint, batch_name text, state text, attempt integer, failures integer, ready_at timestamptz)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select
        id,
        data_loads.batch_name,
        coalesce(metadata #>> array[stage, 'state'], 'waiting'),
        coalesce((metadata #>> array[stage, 'attempt'])::integer, 0),
        coalesce((metadata #>> array[stage, 'failures'])::integer, 0),
        coalesce((metadata #>> array[stage, 'retry_at'])::timestamptz, completed_at)
    from public.data_loads
    where status = 'completed'
        and (stage = 'snapshot' or metadata #>> '{snapshot,state}' = 'finished')
        and coalesce(metadata #>> array[stage, 'state'], 'waiting') not in ('finished', 'failed')
    order by id
$$;

-- Claim a batch: the attempt number, or null when another session works on it or nothing is left to do.
-- `waited` is the time since the worker woke, so that all recorded times are of one clock, the server's.
create function claim_stage(batch_id bigint, stage text, worker text, wake text, waited interval) returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    next_attempt integer;
    moment       timestamptz := clock_timestamp();
begin
    perform public.require_stage(stage);
    if not pg_try_advisory_lock(public.stage_lock_class(stage), batch_id::integer) then
        return null;
    end if;
    -- Whoever recorded an outcome has released the advisory lock before the commit: wait for that commit, so that the
    -- UPDATE looks at what it left.
    perform from public.data_loads where id = batch_id for no key update;
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
        and id in (select pending.batch_id from public.pending_batches(stage) as pending where pending.ready_at <= moment)
    returning (metadata #>> array[stage, 'attempt'])::integer into next_attempt;
    if next_attempt is null then
        perform pg_advisory_unlock(public.stage_lock_class(stage), batch_id::integer);
    end if;
    return next_attempt;
end;
$$;

-- Is this attempt still the newest and unfinished? Asked before anything is published.
create function holds_stage(batch_id bigint, stage text, attempt integer) returns boolean
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
create function hold_stage(batch_id bigint, stage text, attempt integer) returns boolean
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

create function holds_stage_lock(batch_id bigint, stage text) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from pg_catalog.pg_locks
        where locktype = 'advisory' and pid = pg_backend_pid() and granted
            and classid::bigint = public.stage_lock_class(stage) and objid::bigint = batch_id
    )
$$;

create function record_stage(batch_id bigint, stage text, attempt integer, entry jsonb) returns void
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
create function finish_stage(batch_id bigint, stage text, attempt integer, result jsonb) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform public.record_stage(batch_id, stage, attempt, jsonb_build_object(
        'state', 'finished', 'finished_at', clock_timestamp(), 'error', null, 'result', result
    ));
    perform pg_notify(
        case stage when 'snapshot' then 'dataset_ready' else 'model_trained' end,
        jsonb_build_object('v', 1, 'batch_id', batch_id, 'run_id', result ->> 'run_id')::text
    );
end;
$$;

-- Record a failure: try again after `backoff`, or, when it is null, give up until retry_stage.
create function fail_stage(batch_id bigint, stage text, attempt integer, error text, backoff interval) returns void
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
        'error', error
    ));
    if backoff is null then
        perform pg_notify('stage_failed', jsonb_build_object(
            'v', 1, 'batch_id', batch_id, 'stage', stage, 'attempt', attempt
        )::text);
    end if;
end;
$$;

-- Hand a claim back unfinished (SIGTERM): no failure, and another worker may take it up at once.
create function release_stage(batch_id bigint, stage text, attempt integer) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform public.record_stage(batch_id, stage, attempt, jsonb_build_object('state', 'waiting'));
    perform public.ring_stage(batch_id, stage);
end;
$$;

create function ring_stage(batch_id bigint, stage text) returns void
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
create function retry_stage(batch_id bigint, stage text) returns boolean
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
