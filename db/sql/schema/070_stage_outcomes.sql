-- The functions with which a worker records how its work on a claimed batch ended, and the functions that let a stage work on a
-- batch again. If a function makes a batch ready for another worker, it also notifies the listeners.

-- Add the keys of `entry` to the record of a stage (metadata -> stage in data_loads), write its digest (`rakuten verify` compares
-- it for each record with a result), and release the claim on the batch. Raise
-- an error if `attempt` is no longer the running attempt, for example if another worker has claimed the batch since.
create or replace function internal.record_stage(batch_id bigint, stage text, attempt integer, entry jsonb) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform internal.require_stage(stage);
    update public.data_loads
    set metadata = jsonb_set(metadata, array[stage], internal.with_digest(metadata -> stage || entry))
    where id = batch_id
        and metadata #>> array[stage, 'state'] = 'running'
        and (metadata #>> array[stage, 'attempt'])::integer = attempt;
    if not found then
        raise exception 'attempt % of stage % on batch % is fenced: another worker claimed the batch', attempt, stage, batch_id
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    while internal.holds_stage_lock(batch_id, stage) loop  -- a session may have taken the lock more than once
        perform pg_advisory_unlock(internal.stage_lock_class(stage), batch_id::integer);
    end loop;
end;
$$;

-- Record the result of a stage for a batch. Then notify the channel of the stage: dataset_ready for the snapshot stage,
-- model_trained for the training stage.
create or replace function internal.finish_stage(batch_id bigint, stage text, attempt integer, result jsonb) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform internal.record_stage(batch_id, stage, attempt, jsonb_build_object(
        'state', 'finished', 'finished_at', clock_timestamp(), 'error', null, 'outage_since', null, 'result', result
    ));
    perform internal.require_readable(batch_id);
    perform pg_notify(
        case stage when 'snapshot' then 'dataset_ready' else 'model_trained' end,
        jsonb_build_object('v', 1, 'batch_id', batch_id, 'run_id', result ->> 'run_id')::text
    );
end;
$$;

-- Record that a stage failed on a batch. The stage tries the batch again after `backoff`. If `backoff` is null, the stage gives
-- the batch up until somebody calls retry_stage.
create or replace function internal.fail_stage(batch_id bigint, stage text, attempt integer, error text, backoff interval)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform internal.record_stage(batch_id, stage, attempt, jsonb_build_object(
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

-- Postpone a batch during an outage, for example of MLflow. An outage does not count as a failure of the batch, so the stage
-- never gives a batch up because of outages. The delay until the next attempt is `first`. It doubles with each further
-- postponement in the same outage, up to `longest`.
create or replace function internal.postpone_stage(
    batch_id bigint, stage text, attempt integer, reason text, first interval, longest interval
) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    record  jsonb := (select metadata -> stage from public.data_loads where id = batch_id);
    in_outage boolean := record ->> 'outage_since' is not null;
    -- `in_a_row` counts the batch's postponements in the present outage and decides the delay; the key `outages` counts all
    -- postponements of the batch
    in_a_row integer := case when in_outage then coalesce((record ->> 'outages_in_a_row')::integer, 0) + 1 else 1 end;
begin
    perform internal.record_stage(batch_id, stage, attempt, jsonb_build_object(
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

-- Reopen the finished stage of a batch if MLflow no longer has the stage's run `run_id`. A worker then builds the lost
-- run's dataset or model again, with the same bytes. Return true if the stage was reopened.
create or replace function internal.reopen_stage(batch_id bigint, stage text, run_id text, reason text) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform internal.require_stage(stage);
    update public.data_loads
    set metadata = jsonb_set(metadata, array[stage], (metadata -> stage) - 'result' || jsonb_build_object(
        'state', 'waiting', 'failures', 0, 'reopened_at', clock_timestamp(), 'error', reason
    ))
    where id = batch_id
        and metadata #>> array[stage, 'state'] = 'finished'
        and metadata #>> array[stage, 'result', 'run_id'] = run_id;  -- not a run that was recorded meanwhile
    if not found then
        return false;
    end if;
    perform internal.notify_stage(batch_id, stage);
    return true;
end;
$$;

-- Release a worker's claim on a batch before the stage is finished, for example on SIGTERM. The release does not count as a
-- failure, and another worker may claim the batch at once.
create or replace function internal.release_stage(batch_id bigint, stage text, attempt integer) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform internal.record_stage(batch_id, stage, attempt, jsonb_build_object('state', 'waiting'));
    perform internal.notify_stage(batch_id, stage);
end;
$$;

-- Tell the workers of a stage that a batch is ready to be processed.
create or replace function internal.notify_stage(batch_id bigint, stage text) returns void
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

-- Let a stage try a batch again after it gave the batch up. Return false if the stage had not given the batch up.
create or replace function internal.retry_stage(batch_id bigint, stage text) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform internal.require_stage(stage);
    update public.data_loads
    set metadata = jsonb_set(metadata, array[stage], metadata -> stage || '{"state": "waiting", "failures": 0, "retry_at": null}')
    where id = batch_id and metadata #>> array[stage, 'state'] = 'failed';
    if not found then
        return false;
    end if;
    perform internal.notify_stage(batch_id, stage);
    return true;
end;
$$;
