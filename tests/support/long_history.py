"""Write a long history of products and labels in SQL, without source files: batches of arrivals and of corrections.

The statistics of the planner are in one of three states afterwards: missing, stale (of a table a hundredth as large) or fresh.
"""

from typing import Final

import psycopg

TABLES: Final = ("products", "labels", "products_history", "labels_history")
CORRECTIONS: Final = 20  # batches, each of which changes 7.5 % of the products
# Titles of 40 to 99 characters, and descriptions of 100 to 1,599 for two products of three.
PRODUCTS: Final = """
    insert into products (productid, designation, description, imageid, image_path, sample_rank, split)
    select
        1000000 + (n * 7919) %% 99999989,
        left(repeat(md5(n::text), 4), 40 + (n %% 60)::integer),
        case when n %% 3 <> 0 then left(repeat(md5((n + 1)::text), 50), 100 + (n %% 1500)::integer) end,
        n,
        format('images/image_train/image_%%s_product_%%s.jpg', n, n),
        n - 1,
        case when n %% 10 = 0 then 'holdout' else 'train' end
    from generate_series(%s::bigint, %s) as n
"""
LABELS: Final = """
    insert into labels (productid, prdtypecode)
    select productid, 10 + sample_rank %% 27
    from products
    where id >= %s
"""
RETITLE: Final = """
    update products set designation = left(designation, 30) || %s
    where (sample_rank * 31 + %s * 7) %% 40 < 3
"""
RELABEL: Final = "update labels set prdtypecode = prdtypecode + 1 where (id + %s) %% 200 = 0"
_DELETE: Final = "delete from {} where id %% 50 = 7"
# The products that the last week adds: their ranks come after all others.
_NEW_PRODUCTS: Final = """
    insert into products (productid, designation, description, imageid, image_path, sample_rank, split)
    select
        200000000 + sample_rank, designation, description, imageid, image_path, 1000000000 + sample_rank, split
    from products
    where sample_rank %% 33 = 0
"""
_NEW_LABELS: Final = """
    insert into labels (productid, prdtypecode)
    select productid, 10
    from products
    where sample_rank >= 1000000000
"""
_OUTSIDE: Final = "update products set imageid = imageid + 1 where sample_rank % 40 = 1"


def write_batch(connection: psycopg.Connection, name: str, changes: list[tuple[str, list[object]]]) -> None:
    """Complete a batch of changes, on a connection with the loader's role in autocommit mode."""
    [batch_id] = connection.execute("select claim_batch(%s, 40, '{}')", [name]).fetchone()
    with connection.transaction():
        connection.execute("select begin_batch(%s)", [batch_id])
        for statement, parameters in changes:
            connection.execute(statement, parameters)
    connection.execute("select record_load(%s, '{\"held_out\": 0}')", [batch_id])
    connection.execute("select complete_batch(%s)", [batch_id])


def write_history(loader: psycopg.Connection, superuser: psycopg.Connection, entries: int) -> None:
    """Write about that many entries of products: arrivals (two fifths), changes, deletions, and changes outside any batch.

    The only ANALYZE is the one after a hundredth of the arrivals, so the statistics are stale. The batch week_4 is running.
    """
    # A batch leaves statistics behind. Here it must not.
    superuser.execute("create or replace function internal.analyze_tables() returns void language sql as ''")
    products = entries * 2 // 5
    first = products // 100 + 1
    write_batch(loader, "week_1", [(PRODUCTS, [1, first - 1]), (LABELS, [1])])
    superuser.execute("analyze")
    write_batch(loader, "week_2", [(PRODUCTS, [first, products]), (LABELS, [first])])
    for number in range(1, CORRECTIONS):
        write_batch(loader, f"correction_{number}", [(RETITLE, [f" {number}", number]), (RELABEL, [number])])
    deletions = [(_DELETE.format(table), []) for table in ("products", "labels")]
    write_batch(loader, f"correction_{CORRECTIONS}", deletions)
    write_batch(loader, "week_3", [(_NEW_PRODUCTS, []), (_NEW_LABELS, [])])
    loader.execute(_OUTSIDE)
    loader.execute("select claim_batch('week_4', 50, '{}')")


def forget_statistics(superuser: psycopg.Connection) -> None:
    """Leave the statistics as a restore leaves them, or an upgrade of PostgreSQL before 18: none."""
    tables = [list(TABLES)]
    superuser.execute("delete from pg_statistic where starelid = any(%s::regclass[])", tables)
    superuser.execute(
        "update pg_class set reltuples = -1, relpages = 0, relallvisible = 0 where oid = any(%s::regclass[])",
        tables,
    )
