-- This file defines the views that people read. `stage_ledger` has one row for each pair of a completed batch and a stage.
-- `pipeline_status` has one row for each batch.

-- Return the seconds between two times. The later time is text, because the JSON of `metadata` holds times as text.
create or replace function internal.seconds_between(earlier timestamptz, later text) returns double precision
language sql stable
return extract(epoch from later::timestamptz - earlier)::double precision;

-- One row for each completed batch and stage. The row says what woke the worker that processed the batch, and how many seconds
-- passed from each of these events to the next: the batch is ready (it is loaded, or its dataset is built), a worker wakes, the
-- worker claims the batch, the worker is done. All times come from the server's clock. After several attempts the row shows the
-- latest attempt, but `ready_at` stays the first time at which the stage could work on the batch.
create or replace view stage_ledger as
select
    batches.id as batch_id,
    batch_name,
    stages.stage,
    coalesce(record ->> 'state', 'waiting') as state,
    coalesce((record ->> 'attempt')::integer, 0) as attempts,
    coalesce((record ->> 'failures')::integer, 0) as failures,
    coalesce((record ->> 'outages')::integer, 0) as outages,
    record ->> 'wake' as wake,
    ready_at,
    (record ->> 'woken_at')::timestamptz as woken_at,
    (record ->> 'claimed_at')::timestamptz as claimed_at,
    (record ->> 'finished_at')::timestamptz as finished_at,
    (record ->> 'retry_at')::timestamptz as retry_at,
    (record ->> 'outage_since')::timestamptz as outage_since,
    internal.seconds_between(ready_at, record ->> 'woken_at') as ready_to_wake_s,
    internal.seconds_between((record ->> 'woken_at')::timestamptz, record ->> 'claimed_at') as wake_to_claim_s,
    internal.seconds_between((record ->> 'claimed_at')::timestamptz, record ->> 'finished_at') as claim_to_done_s,
    record ->> 'worker' as worker,
    record #>> '{result,run_id}' as run_id,
    record ->> 'error' as error,
    exists (
        select from pg_catalog.pg_locks
        where locktype = 'advisory'
            and granted
            and database = (select oid from pg_catalog.pg_database where datname = current_database())
            and classid::bigint = internal.stage_lock_class(stages.stage)
            and objid::bigint = batches.id
    ) as held
from batches
cross join lateral (
    values
        ('snapshot', snapshot, completed_at),
        ('training', training, (snapshot ->> 'finished_at')::timestamptz)
) as stages (stage, record, ready_at)
where status = 'completed'
order by batches.id, stages.stage;

-- One row for each batch: what was loaded, what each stage built from it, and the seconds from one event to the next.
create or replace view pipeline_status as
select
    id as batch_id,
    batch_name,
    percentage,
    status,
    total_rows,
    loaded_rows as new_rows,
    started_at,
    completed_at,
    load_error,
    snapshot_state,
    (snapshot ->> 'attempt')::integer as snapshot_attempts,
    snapshot ->> 'wake' as snapshot_wake,
    (dataset ->> 'total_rows')::bigint as snapshot_rows,
    dataset_run_id,
    internal.seconds_between(completed_at, snapshot ->> 'woken_at') as commit_to_wake_s,
    internal.seconds_between(completed_at, snapshot ->> 'finished_at') as commit_to_dataset_s,
    snapshot ->> 'error' as snapshot_error,
    training_state,
    (training ->> 'attempt')::integer as training_attempts,
    training ->> 'wake' as training_wake,
    model_run_id,
    model_version,
    (model ->> 'champion')::boolean as became_champion,
    (model ->> 'f1_score')::double precision as f1_score,
    (model ->> 'f1_score_ci_low')::double precision as f1_score_ci_low,
    (model ->> 'f1_score_ci_high')::double precision as f1_score_ci_high,
    (model ->> 'accuracy')::double precision as accuracy,
    internal.seconds_between((snapshot ->> 'finished_at')::timestamptz, training ->> 'woken_at') as dataset_to_wake_s,
    internal.seconds_between(completed_at, training ->> 'finished_at') as commit_to_model_s,
    training ->> 'error' as training_error,
    internal.seconds_between((snapshot ->> 'woken_at')::timestamptz, snapshot ->> 'claimed_at')
        as snapshot_wake_to_claim_s,
    internal.seconds_between((snapshot ->> 'claimed_at')::timestamptz, snapshot ->> 'finished_at')
        as snapshot_claim_to_done_s,
    (snapshot ->> 'failures')::integer as snapshot_failures,
    (snapshot ->> 'outages')::integer as snapshot_outages,
    internal.seconds_between((training ->> 'woken_at')::timestamptz, training ->> 'claimed_at')
        as training_wake_to_claim_s,
    internal.seconds_between((training ->> 'claimed_at')::timestamptz, training ->> 'finished_at')
        as training_claim_to_done_s,
    (training ->> 'failures')::integer as training_failures,
    (training ->> 'outages')::integer as training_outages
from batches
order by id;
