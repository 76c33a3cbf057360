-- Return the state of everything in the database that protects the data or that the pipeline relies on: one row for each table,
-- column, constraint, index, trigger, rule, policy, view, function, sequence and right, and for each power of a role.
-- `definition` depends neither on the version of PostgreSQL nor on the name of the owner. %(names)s lists the tables, views,
-- sequences and functions to look at; null for all of the schemas public and internal. Objects of an extension are left out.
with relations as (
    select pg_class.*
    from pg_catalog.pg_class
    where relnamespace = 'public'::regnamespace
        and relkind in ('r', 'p', 'v', 'S')
        and (%(names)s::text[] is null or relname = any(%(names)s))
        and not exists (select from pg_catalog.pg_depend where objid = pg_class.oid and deptype = 'e')
),
functions as (
    select
        pg_proc.*,
        case when pronamespace = to_regnamespace('internal') then 'internal.' else '' end
            || proname || '(' || replace(pg_get_function_identity_arguments(pg_proc.oid), 'public.', '') || ')' as signature
    from pg_catalog.pg_proc
    where pronamespace in ('public'::regnamespace, to_regnamespace('internal'))
        and (%(names)s::text[] is null or proname = any(%(names)s))
        and not exists (select from pg_catalog.pg_depend where objid = pg_proc.oid and deptype = 'e')
),
schema_owner as (
    select oid, rolname
    from pg_catalog.pg_roles
    where oid = (select relowner from pg_catalog.pg_class where oid = to_regclass('public.alembic_version'))
),
steps as (  -- the roles of the steps, which must have no power but the rights that the schema grants
    select * from pg_catalog.pg_roles
    where rolname in ('rakuten_loader', 'rakuten_snapshot', 'rakuten_training', 'rakuten_server', 'rakuten_reader')
),
rights as (
    select 'table ' || relname as object, grantee, privilege_type, is_grantable
    from relations, aclexplode(coalesce(relacl, acldefault(case when relkind = 'S' then 's' else 'r' end::"char", relowner)))
    where grantee <> relowner
    union all
    select 'column ' || relname || '.' || attname, grantee, privilege_type, is_grantable
    from relations
    join pg_catalog.pg_attribute on attrelid = relations.oid
    cross join aclexplode(attacl)
    where grantee <> relowner
    union all
    select 'function ' || signature, grantee, privilege_type, is_grantable
    from functions, aclexplode(coalesce(proacl, acldefault('f', proowner)))
    where grantee <> proowner
    union all
    select 'schema ' || nspname, grantee, privilege_type, is_grantable
    from pg_catalog.pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner)))
    where nspname in ('public', 'internal') and grantee not in (nspowner, (select oid from schema_owner))
    union all
    select 'database', grantee, privilege_type, is_grantable
    from pg_catalog.pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba)))
    where datname = current_database()
        and privilege_type <> 'CONNECT'
        and grantee not in (datdba, (select oid from schema_owner))
)
select
    'table' as kind,
    relname::text as name,
    concat_ws(
        ' ', case relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end,
        case when relpersistence <> 'p' then 'unlogged' end,
        case when relrowsecurity then 'row level security' end,
        case when relispartition or relhassubclass then 'inheritance' end,
        array_to_string(reloptions, ',')
    ) as definition
from relations

union all
select
    'column',
    relname || '.' || attname,
    concat_ws(
        ' ', format_type(atttypid, atttypmod), case when attnotnull then 'not null' end,
        case attidentity when 'a' then 'identity' when 'd' then 'identity by default' end,
        case when attgenerated <> '' then 'generated' end, 'default ' || pg_get_expr(adbin, adrelid)
    )
from relations
join pg_catalog.pg_attribute on attrelid = relations.oid and attnum > 0 and not attisdropped
left join pg_catalog.pg_attrdef on (adrelid, adnum) = (attrelid, attnum)
where relkind in ('r', 'p')

union all
select 'constraint', relname || '.' || conname, pg_get_constraintdef(pg_constraint.oid)
from relations
join pg_catalog.pg_constraint on conrelid = relations.oid
where contype <> 'n'  -- NOT NULL, which PostgreSQL 18 lists as a constraint: see the columns

union all
select
    'index',
    relations.relname || '.' || of_index.relname,
    pg_get_indexdef(indexrelid) || case when indisvalid and indisready then '' else ' (invalid)' end
from relations
join pg_catalog.pg_index on indrelid = relations.oid
join pg_catalog.pg_class as of_index on of_index.oid = indexrelid

union all
select
    'trigger',
    relname || '.' || tgname,
    case tgenabled when 'A' then 'always' when 'O' then 'not in replicas' when 'R' then 'only in replicas' else 'disabled' end
        || ': ' || pg_get_triggerdef(pg_trigger.oid)
from relations
join pg_catalog.pg_trigger on tgrelid = relations.oid
where not tgisinternal

union all
select 'rule', relname || '.' || rulename, pg_get_ruledef(pg_rewrite.oid)
from relations
join pg_catalog.pg_rewrite on ev_class = relations.oid
where rulename <> '_RETURN'

union all
select 'policy', relname || '.' || polname, coalesce(pg_get_expr(polqual, polrelid), '')
from relations
join pg_catalog.pg_policy on polrelid = relations.oid

union all
-- PostgreSQL 18 writes fewer names of tables before the columns than earlier versions: leave them out
select 'view', relname::text, regexp_replace(pg_get_viewdef(oid), '\m\w+\.', '', 'g')
from relations
where relkind = 'v'

union all
select
    'function',
    signature,
    concat_ws(
        ' ', lanname, 'returns ' || format_type(prorettype, null), case when prosecdef then 'security definer' end,
        provolatile, proparallel, proisstrict, proretset, array_to_string(proconfig, ', '),
        pg_get_expr(proargdefaults, 0), prosrc, pg_get_function_sqlbody(functions.oid)
    )
from functions
join pg_catalog.pg_language on pg_language.oid = prolang

union all
select 'sequence', relname::text, concat_ws(' ', seqstart, seqincrement, seqmin, seqmax, seqcycle)
from relations
join pg_catalog.pg_sequence on seqrelid = relations.oid

union all
select
    'right',
    object || ': ' || case when grantee = 0 then 'public' else pg_get_userbyid(grantee) end,
    string_agg(privilege_type || case when is_grantable then ' with grant option' else '' end, ', ' order by privilege_type)
from rights
group by object, grantee

union all
select
    'role',
    rolname::text,
    concat_ws(
        ' ', case when rolsuper then 'superuser' end, case when rolcreaterole then 'createrole' end,
        case when rolcreatedb then 'createdb' end, case when rolreplication then 'replication' end,
        case when rolbypassrls then 'bypassrls' end
    )
from steps

union all
select 'membership', pg_get_userbyid(member) || ' in ' || pg_get_userbyid(roleid), ''
from pg_catalog.pg_auth_members
where member in (select oid from steps) or roleid = (select oid from schema_owner)

union all
select 'owner', object, pg_get_userbyid(owner) || ', not ' || rolname
from (
    select 'table ' || relname as object, relowner as owner from relations where relkind <> 'S'
    union all
    select 'function ' || signature, proowner from functions
) as owned
cross join schema_owner
where owner <> schema_owner.oid

union all
select 'owner', 'table alembic_version', rolname || ', not rakuten_owner'
from schema_owner
where oid in (select oid from steps)
