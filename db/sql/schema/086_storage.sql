-- This file defines two views about bytes. `storage` says how many bytes the data takes: the database, its tables, the files in
-- MLflow, the local copies of the datasets, and the write-ahead log. `storage_growth` estimates how many bytes each of them gains
-- a week.

-- Return the size of each file that a stage recorded when it published a dataset, a model or a fixed set in MLflow. `bytes` and
-- `file_name` are null for a run of which no size is recorded, because a stage of an earlier version published it.
--
-- jsonb_path_query() with `silent => true` skips a recorded size that is not a number, so such a record cannot break the view.
create or replace function internal.artifact_files() returns table (
    object text, batch_id bigint, run_id text, file_name text, bytes numeric, has_local_copy boolean
)
language sql stable
as $$
    with runs as (
        select 'datasets' as object, id as batch_id, dataset_run_id as run_id, dataset as result
        from public.batches
        where dataset is not null
        union all
        select 'models', id, model_run_id, model
        from public.batches
        where model is not null
        union all
        (
            select distinct on (fixed_set ->> 'key')
                fixed_set ->> 'key', id, fixed_set #>> '{value,run_id}', fixed_set -> 'value'
            from public.batches
            cross join lateral jsonb_path_query(dataset, '$.fixed_sets.keyvalue()', silent => true) as fixed_set
            order by fixed_set ->> 'key', id desc
        )
    )
    select
        object, batch_id, run_id, file ->> 'key' as file_name, (file ->> 'value')::numeric as bytes,
        -- the snapshot stage keeps a local copy of the file of each dataset, train_week_7.parquet, and of no other file
        object = 'datasets' and not result ? 'copy_error' and (file is null or file ->> 'key' like 'train\_%.parquet')
            as has_local_copy
    from runs
    left join lateral jsonb_path_query(
        result, '$.artifact_bytes.keyvalue() ? (@.value.type() == "number")', silent => true
    ) as file on true
$$;

-- Return the bytes of the write-ahead log, or null if the owner of this function may not list its files. Only a superuser can
-- give the right:
--     grant execute on function pg_catalog.pg_ls_waldir() to rakuten_owner
-- This is the least right with which PostgreSQL shows the size. The role pg_monitor has the right, too, and many others.
create or replace function internal.wal_bytes() returns bigint
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- has_function_privilege() returns null for a function that a server does not have
    if has_function_privilege(to_regprocedure('pg_catalog.pg_ls_waldir()')::oid, 'execute') then
        return (select sum(size) from pg_catalog.pg_ls_waldir());
    end if;
    return null;
end;
$$;

-- PostgreSQL measures its own sizes. It cannot see other disks, so the sizes of files are those that the stages recorded when
-- they published them. A stage of an earlier version recorded none: `runs_without_size` counts its runs. The write-ahead log is
-- shared by all databases of the server.
create or replace view storage as
with places as (
    select
        1 as place, 'database' as kind, current_database()::text as object, pg_database_size(current_database()) as bytes,
        null::bigint as index_bytes, false as is_part_of_database, null::bigint as runs_without_size
    union all
    select
        1 + ordinality, tables.kind, name, pg_total_relation_size(('public.' || name)::regclass),
        pg_indexes_size(('public.' || name)::regclass), true, null
    from (
        values
            ('current', 'products', 1), ('current', 'labels', 2), ('history', 'products_history', 3),
            ('history', 'labels_history', 4), ('batches', 'data_loads', 5)
    ) as tables (kind, name, ordinality)
    union all
    select
        10, 'artifacts', object, coalesce(sum(bytes), 0)::bigint, null, false,
        count(distinct run_id) filter (where bytes is null)
    from internal.artifact_files()
    group by object
    union all
    select
        11, 'copies', 'training_snapshots', coalesce(sum(bytes), 0)::bigint, null, false,
        count(distinct run_id) filter (where bytes is null)
    from internal.artifact_files()
    where has_local_copy
    having count(*) > 0
    union all
    select 12, 'write-ahead log', 'pg_wal', wal_bytes, null, false, null
    from internal.wal_bytes() as wal_bytes
    where wal_bytes is not null
)
select kind, object, bytes, pg_size_pretty(bytes) as size, index_bytes, is_part_of_database, runs_without_size
from places
order by place, object;

-- An estimate of the growth a week. A week of the pipeline is the batch of a week and the corrections between it and the next
-- week. The order is that of the hash chain. The growth is the mean of the last four weeks after the first one, which loads the
-- largest part of the data:
-- - of artifacts and copies: the bytes that the stages recorded. A week without a recorded size does not count.
-- - of a table: its present size with its indexes, times the share of its rows that came in a week. For a history, the numbers of
--   the entries (history_id) tell how many came. A load that failed leaves a gap in the numbers, so the share is approximate.
-- - of the database: the sum of its tables.
-- The write-ahead log does not grow with the weeks: PostgreSQL reuses its files.
create or replace view storage_growth as
with completed as (
    select
        id, chain_number, total_rows, products_up_to, labels_up_to,
        count(*) filter (where kind = 'week') over (order by chain_number) as week
    from batches
    where chain_number is not null
),
added as (
    select
        week,
        greatest(total_rows - lag(total_rows, 1, 0) over in_order, 0) as products,
        products_up_to - lag(products_up_to, 1, 0::bigint) over in_order as products_history,
        labels_up_to - lag(labels_up_to, 1, 0::bigint) over in_order as labels_history
    from completed
    window in_order as (order by chain_number)
),
amounts (object, week, amount) as (
    select object, week, sum(amount)
    from added
    cross join lateral (
        values
            ('products', products), ('labels', products), ('products_history', products_history),
            ('labels_history', labels_history), ('data_loads', 1)
    ) as tables (object, amount)
    group by object, week
    union all
    select object, week, sum(bytes)
    from internal.artifact_files()
    join completed on completed.id = batch_id
    where object in ('datasets', 'models')
    group by object, week
    union all
    select 'training_snapshots', week, sum(bytes)
    from internal.artifact_files()
    join completed on completed.id = batch_id
    where has_local_copy
    group by week
),
ranked as (
    select object, week, amount, row_number() over (partition by object order by week desc) as weeks_ago
    from amounts
    where amount is not null
),
shares as (
    select object, avg(amount) filter (where week > 1 and weeks_ago <= 4) / nullif(sum(amount), 0) as share
    from ranked
    group by object
),
growth as (
    select
        storage.*,
        case
            when kind <> 'artifacts' or object in ('datasets', 'models') then bytes * share
            when (select max(week) from completed) > 1 then 0  -- the fixed sets are published once
        end as bytes_per_week
    from storage
    left join shares using (object)
)
select
    kind,
    object,
    bytes,
    round(
        case kind when 'database' then sum(bytes_per_week) filter (where is_part_of_database) over () else bytes_per_week end
    )::bigint as bytes_per_week
from growth;
