-- The work queue of the two stages, snapshot and training. Each completed batch has a record for each stage, in `metadata`
-- under the name of the stage. The state in the record changes like this:
--
--   (absent) -> running -> finished
--                 | ^         |
--                 v |         |  (MLflow no longer has the run: reopen_stage)
--              waiting <------'
--                 |
--                 '-> failed   (after max_attempts failures that the batch itself caused: given up until retry_stage)
--
-- After a failure or an outage (MLflow unavailable, disk full), the batch waits until the time `retry_at`. A batch may fail
-- max_attempts times. An outage is not the fault of the batch, so the stage waits for its end, however long the outage lasts.
--
-- A worker holds the advisory lock of (stage, batch) on its session while it works. When the worker dies, PostgreSQL releases
-- the lock, so another worker can claim the batch at once. Every claim gets a new attempt number, and a worker must give the
-- newest number to record anything. So if a worker loses its lock and another worker claims the batch, the first worker is
-- fenced: PostgreSQL rejects what it tries to record.

-- Raise an error if `stage` is not snapshot or training, or if this session's login is not a member of the stage's role
-- (rakuten_snapshot or rakuten_training).
create or replace function internal.require_stage(stage text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if stage is null or stage not in ('snapshot', 'training') then
        raise exception 'unknown stage: %', quote_nullable(stage) using errcode = 'invalid_parameter_value';
    end if;
    perform internal.require_role(stage);
end;
$$;

-- Return the time from which a stage may work on a batch. `record` is the stage's record in the batch's metadata;
-- `seen_at` is the current time. The result is the recorded `retry_at`, or the completion of the batch if there is no
-- `retry_at`. If the time of the recorded failure or outage is later than `seen_at`, the clock has been set back since then.
-- The batch is then ready at once, because a clock that is set back must not delay any batch.
create or replace function internal.ready_at(record jsonb, completed_at timestamptz, seen_at timestamptz) returns timestamptz
language sql stable
return case
    when (record ->> 'retry_at')::timestamptz is null then least(completed_at, seen_at)
    when seen_at < greatest((record ->> 'failed_at')::timestamptz, (record ->> 'postponed_at')::timestamptz) then seen_at
    else (record ->> 'retry_at')::timestamptz
end;

-- Return the batches that wait for a stage, in the order of the hash chain. `ready_at` lies in the future while a batch waits
-- after a failure or an outage. The query has one branch for each stage. So PostgreSQL reads only the partial index of this
-- stage, and the cost does not grow with the number of finished batches. The function has no SET clause, because PostgreSQL's
-- planner does not inline functions that have a SET clause.
create or replace function internal.pending_batches(stage text)
returns table (batch_id bigint, batch_name text, state text, attempt integer, failures integer, ready_at timestamptz)
language sql stable
as $$
    select
        id,
        data_loads.batch_name,
        coalesce(record ->> 'state', 'waiting'),
        coalesce((record ->> 'attempt')::integer, 0),
        coalesce((record ->> 'failures')::integer, 0),
        internal.ready_at(record, completed_at, now())
    from (
        select
            id, data_loads.batch_name, completed_at, metadata #>> '{audit,number}' as number, metadata -> 'snapshot' as record
        from public.data_loads
        where stage = 'snapshot'
            and status = 'completed'
            and metadata #>> '{snapshot,state}' is distinct from 'finished'
        union all
        select
            id, data_loads.batch_name, completed_at, metadata #>> '{audit,number}' as number, metadata -> 'training' as record
        from public.data_loads
        where stage = 'training'
            and status = 'completed'
            and metadata #>> '{training,state}' is distinct from 'finished'
            and metadata #>> '{snapshot,state}' = 'finished'
    ) as data_loads
    where record ->> 'state' is distinct from 'failed'
    order by number::bigint
$$;

-- Claim a batch for a stage. Return the number of the new attempt. Return null if another session works on the batch, or if
-- the batch is not ready for the stage (for example already finished, or waiting for its `retry_at`). `wake` says what woke the
-- worker. `waited` is the time that has passed since this wake-up. It is a duration, not a clock time, so that all recorded
-- times come from the server's clock.
create or replace function internal.claim_stage(batch_id bigint, stage text, worker text, wake text, waited interval)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    next_attempt integer;
    moment       timestamptz;
begin
    perform internal.require_stage(stage);
    if not pg_try_advisory_lock(internal.stage_lock_class(stage), batch_id::integer) then
        return null;
    end if;
    -- An earlier worker on this batch records its outcome (finished, failed, postponed), then releases the advisory lock, then
    -- commits. This session now holds the lock, so `moment` is later than every time in that outcome. If the earlier worker has
    -- not committed yet, the UPDATE waits for that commit, then checks the conditions of the WHERE clause on the committed row.
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
        and internal.ready_at(metadata -> stage, completed_at, moment) <= moment
    returning (metadata #>> array[stage, 'attempt'])::integer into next_attempt;
    if next_attempt is null then
        perform pg_advisory_unlock(internal.stage_lock_class(stage), batch_id::integer);
    end if;
    return next_attempt;
end;
$$;

-- Claim the oldest batch that is ready for a stage and that no other worker holds. Return the new attempt with all columns of
-- the batch, so that the worker needs no further query before its work. Return no row if there is no such batch.
--
-- The attempt also records what woke the worker and how long ago. `notified` maps the ids of batches to the age of their
-- notification in seconds. If `notified` has the claimed batch, the attempt records `notify` and this age. Otherwise, it
-- records `wake` and `waited`. These values do not influence which batch is claimed.
--
-- plan_cache_mode makes PostgreSQL plan the query only once, because planning takes longer than running the query. The two
-- settings `enable_...` leave only the index scan, which is the fastest:
-- * A sequential scan reads the whole table. The planner would choose it, because it expects nearly every batch to be pending.
-- * A bitmap scan also reads dead index entries, which belong to batches that are no longer pending, until the next vacuum.
-- * An index scan marks dead entries, so that later scans skip them.
drop function if exists internal.claim_next(text, text, text, interval, jsonb);  -- an earlier version returned fewer columns
create or replace function internal.claim_next(stage text, worker text, wake text, waited interval, notified jsonb)
returns table (
    attempt integer, failures integer, wake_source text,
    id bigint, name text, status text, started_at timestamptz, completed_at timestamptz, total_rows bigint,
    week integer, chain_number bigint, seal text, source jsonb, metadata jsonb
)
language plpgsql security definer rows 1
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
    pending  record;
    notified_s double precision;
begin
    for pending in
        select * from internal.pending_batches(stage) as waiting where waiting.ready_at <= clock_timestamp()
    loop
        notified_s := notified ->> pending.batch_id::text;
        wake_source := case when notified_s is null then wake else 'notify' end;
        attempt := internal.claim_stage(
            pending.batch_id, stage, worker, wake_source, coalesce(make_interval(secs => notified_s), waited)
        );
        if attempt is not null then
            select
                coalesce((batch.metadata #>> array[stage, 'failures'])::integer, 0),
                batch.id, batch.batch_name, batch.status, batch.started_at, batch.completed_at, batch.total_rows,
                internal.week_of_batch(batch.id), batch.chain_number, batch.seal, batch.first_source, batch.metadata
            into failures, id, name, status, started_at, completed_at, total_rows, week, chain_number, seal,
                source, metadata
            from public.batches as batch
            where batch.id = pending.batch_id;
            return next;
            return;
        end if;
    end loop;
end;
$$;

-- Tell whether this attempt is still the stage's newest attempt on the batch and is not finished. A worker calls this function
-- before it publishes anything.
create or replace function internal.holds_stage(batch_id bigint, stage text, attempt integer) returns boolean
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

-- Return true if a worker may go on with the batch that it claimed. If the worker has lost its connection and opened a new one,
-- PostgreSQL has released the worker's lock on the batch, so this function takes the lock again. Return false if the
-- attempt is finished, if a newer attempt has replaced it, or if another session has taken the lock.
create or replace function internal.hold_stage(batch_id bigint, stage text, attempt integer) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform internal.require_stage(stage);
    if not internal.holds_stage(batch_id, stage, attempt) then
        return false;
    end if;
    return internal.holds_stage_lock(batch_id, stage)
        or pg_try_advisory_lock(internal.stage_lock_class(stage), batch_id::integer);
end;
$$;

-- Tell whether this session holds the advisory lock whose two keys are this stage and this batch.
create or replace function internal.holds_stage_lock(batch_id bigint, stage text) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from pg_catalog.pg_locks
        where locktype = 'advisory' and pid = pg_backend_pid() and granted
            and classid::bigint = internal.stage_lock_class(stage) and objid::bigint = batch_id
    )
$$;
