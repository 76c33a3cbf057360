-- For revision 0003: seal, oldest first, the batches that were completed before there were seals.
do $$
declare
    batch public.data_loads;
begin
    alter table public.data_loads disable trigger _200_unchanged;  -- which lets no completed batch change
    for batch in
        select * from public.data_loads
        where status = 'completed' and metadata #>> '{audit,seal}' is null
        order by completed_at
    loop
        update public.data_loads
        set metadata = jsonb_set(metadata, '{audit,number}', to_jsonb(1 + coalesce((
            select max((metadata #>> '{audit,number}')::bigint) from public.data_loads where status = 'completed'
        ), 0)))
        where id = batch.id
        returning * into batch;
        update public.data_loads
        set metadata = jsonb_set(metadata, '{audit}', public.audit_of(batch))
        where id = batch.id;
    end loop;
    alter table public.data_loads enable always trigger _200_unchanged;
end;
$$
