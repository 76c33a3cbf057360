-- The copy of the history of MLflow's alias `champion`, and the notification that the alias has moved.

-- Record those of `moves` that are not recorded yet. Each is a move of MLflow's history as JSON, with its digest as `sha256`. If
-- there is a new one, notify champion_moved.
create or replace function internal.record_champion_moves(moves jsonb) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into public.champion_moves (
        move_sha256, number, kind, from_version, to_version, run_id, moved_at, moved_by, reason
    )
    select
        move ->> 'sha256',
        (move ->> 'number')::integer,
        move ->> 'kind',
        (move ->> 'from_version')::integer,
        (move ->> 'to_version')::integer,
        move ->> 'run_id',
        (move ->> 'at')::timestamptz,
        move ->> 'by',
        move ->> 'reason'
    from jsonb_array_elements(moves) with ordinality as given (move, place)
    order by place
    on conflict (move_sha256) do nothing;
    if found then
        perform pg_notify('champion_moved', jsonb_build_object(
            'v', 1, 'version', (select to_version from public.champion_moves order by id desc limit 1)
        )::text);
    end if;
end;
$$;

-- The last move of the alias, with what PostgreSQL has recorded about the model. One row, or none before the first champion.
create or replace view champion as
select
    to_version as version,
    last_move.run_id,
    batch_id,
    batch_name,
    seal as batch_seal,
    manifest_sha256,
    kind,
    moved_at,
    moved_by,
    reason
from (select * from public.champion_moves order by id desc limit 1) as last_move
left join lateral (
    select
        batches.id as batch_id,
        batches.batch_name,
        batches.seal,
        batches.model ->> 'manifest_sha256' as manifest_sha256
    from public.batches
    where batches.model_run_id = last_move.run_id
    order by batches.id
    limit 1
) as trained on true;
