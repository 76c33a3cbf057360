-- The moves of the champion, oldest first. `model_of` is the batch of the new champion, and `after_batch` is the newest batch
-- that was complete at that time.
select
    champion_moves.id,
    champion_moves.kind,
    from_version,
    to_version,
    (
        select batch_name
        from batches
        where model_run_id = run_id
        order by id
        limit 1
    ) as model_of,
    (
        select batch_name
        from batches
        where status = 'completed' and completed_at <= moved_at
        order by chain_number desc
        limit 1
    ) as after_batch,
    moved_at,
    moved_by,
    champion_moves.reason
from champion_moves
order by champion_moves.id
