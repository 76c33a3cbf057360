-- How the attempts of each stage ended for each batch: finished, failed by the fault of the batch, postponed by an outage, or
-- ended early (a worker was stopped or killed, or still works).
select
    chain_number,
    stage_ledger.batch_name,
    stage,
    state,
    attempts,
    (state = 'finished')::integer as finished,
    failures,
    outages,
    greatest(attempts - failures - outages - (state = 'finished')::integer, 0) as ended_early,
    stage_ledger.error as last_error
from stage_ledger
inner join batches on batches.id = stage_ledger.batch_id
order by chain_number, stage
