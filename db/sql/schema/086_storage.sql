-- How many bytes the pipeline's data takes: the database, its tables, the files in MLflow and the local copies of the datasets.
-- PostgreSQL measures its own sizes. It cannot see other disks, so the sizes of files are those that the stages recorded when
-- they published them. A stage of an earlier version recorded none: `runs_without_size` counts its runs.
--
-- jsonb_path_query() with `silent => true` skips a recorded size that is not a number, so such a record cannot break the view.
create or replace view storage as
with runs as (
    select 'datasets' as object, dataset_run_id as run_id, dataset as result
    from batches
    where dataset is not null
    union all
    select 'models', model_run_id, model
    from batches
    where model is not null
    union all
    (
        select distinct on (fixed_set ->> 'key') fixed_set ->> 'key', fixed_set #>> '{value,run_id}', fixed_set -> 'value'
        from batches
        cross join lateral jsonb_path_query(dataset, '$.fixed_sets.keyvalue()', silent => true) as fixed_set
        order by fixed_set ->> 'key', id desc
    )
),
files as (
    select object, run_id, result, file ->> 'key' as file_name, (file ->> 'value')::numeric as bytes
    from runs
    left join lateral jsonb_path_query(
        result, '$.artifact_bytes.keyvalue() ? (@.value.type() == "number")', silent => true
    ) as file on true
),
places as (
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
    from files
    group by object
    union all
    select
        11, 'copies', 'training_snapshots', coalesce(sum(bytes), 0)::bigint, null, false,
        count(distinct run_id) filter (where bytes is null)
    from files
    where object = 'datasets' and not result ? 'copy_error' and (file_name is null or file_name like '%.parquet')
    having count(*) > 0
)
select kind, object, bytes, pg_size_pretty(bytes) as size, index_bytes, is_part_of_database, runs_without_size
from places
order by place, object;
