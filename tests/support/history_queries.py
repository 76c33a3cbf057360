"""Every query over the big tables (products, labels and their histories), ready to run on what long_history.py has written."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import psycopg
from long_history import CORRECTIONS

from db.sql import query

_FOLDERS: Final = (
    "load",
    "corrections",
    "snapshot",
    "provenance",
    "report",
)  # of db/sql/queries; the others read only data_loads
# These create or fill a table, or read only data_loads.
_WITHOUT_PLAN: Final = {
    "corrections/copy_rows",
    "corrections/create_table",
    "corrections/next_correction",
    "load/copy_labels",
    "load/copy_products",
    "load/copy_staging",
    "load/create_staging",
    "load/last_batch",
    "provenance/batch_of_run",
    "provenance/recorded_moves",
    "provenance/recorded_results",
    "provenance/stage_records",
    "report/attempts",
    "report/batches",
    "report/champion_lineage",
    "report/champion_moves",
    "report/class_scores",
    "report/drift",
    "report/latencies",
    "report/model_scores",
    "report/suspects",
    "snapshot/earlier_dataset",
    "snapshot/earlier_folder",
    "snapshot/missing_copies",
    "snapshot/watermarks",
}
# A correction that updates a twentieth of the products and inserts every deleted product again.
_CORRECTION: Final = """
    insert into correction (row_number, operation, productid, designation)
    select row_number() over (), operation, productid, designation
    from (
        select 'update' as operation, productid, designation || '.' as designation
        from products
        where sample_rank % 20 = 3
        union all
        select 'insert', productid, designation
        from products_history
        where operation_type = 'DELETE'
    ) as given
"""
_STAGED: Final = """
    insert into staging
    select 400000000 + productid, designation, description, imageid, image_path, sample_rank, split, 10
    from products_history
    where operation_type = 'DELETE' or sample_rank >= 1000000000 and operation_type = 'INSERT'
"""
_SMALL_UPDATE: Final = """
    update products set imageid = imageid + 1
    where productid = (select min(productid) from products)
"""
_LARGE_UPDATE: Final = "update products set imageid = imageid + 1 where sample_rank % 20 = 3"


@dataclass(frozen=True)
class Case:
    """A statement with its parameters, and the statements that must run before it in its transaction."""

    statement: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    before: tuple[str, ...] = ()


def cases_of(connection: psycopg.Connection) -> dict[str, Case]:
    """Return every query over the big tables by its name.

    Raises:
        LookupError: a query in db/sql/queries is missing here and in `_WITHOUT_PLAN`.
    """
    batches = dict(connection.execute("select batch_name, id from data_loads").fetchall())
    begin = f"select begin_batch({batches['week_4']})"
    files = {
        **_load_queries(connection, batches, begin),
        **_correction_queries(begin),
        **_snapshot_queries(connection, batches),
        **_provenance_queries(connection, batches),
        **{f"report/{name}": Case() for name in ("class_shares", "problems", "top_suspects")},
    }
    folder = Path(__file__).parents[2] / "db/sql/queries"
    paths = [path for name in _FOLDERS for path in (folder / name).glob("*.sql")]
    differ = {f"{path.parent.name}/{path.stem}" for path in paths} ^ (files.keys() | _WITHOUT_PLAN)
    if differ:
        raise LookupError(f"not listed in {Path(__file__).name}, or not in {folder}: {sorted(differ)}")
    functions = (
        "verify_seals()",
        "pipeline_doctor()",
        "products_as_of(now())",
        "training_products",
        "class_distribution",
    )
    return {
        **{name: replace(case, statement=query(name)) for name, case in files.items()},
        **{name: Case(f"select * from {name}") for name in functions},
        "complete_batch()": Case(f"select complete_batch({batches['week_4']})"),
        "audit of an update": Case(_LARGE_UPDATE, before=(begin,)),
        "audit of an update after small ones": Case(_LARGE_UPDATE, before=(begin, *[_SMALL_UPDATE] * 10)),
    }


def _load_queries(connection: psycopg.Connection, batches: dict[str, int], begin: str) -> dict[str, Case]:
    many = "select array_agg(productid) from products where id % 40 = 1"
    [productids] = connection.execute(many).fetchone()
    staged = (query("load/create_staging"), _STAGED, begin)
    return {
        "load/deleted_of_week": Case(parameters={"first_rank": 0, "end_rank": 1_000_000_000}),
        "load/validate_load": Case(parameters={"target_rows": 1_000_000_000}),
        "load/changed_outside_batch": Case(parameters={"batch_id": batches["week_4"]}),
        "load/ever_held_out": Case(parameters={"productids": productids}),
        "load/skip_deleted": Case(before=staged),
        "load/merge_products": Case(before=staged),
        "load/merge_labels": Case(before=staged),
    }


def _correction_queries(begin: str) -> dict[str, Case]:
    """Return the statements of `rakuten correct`, each after those before it."""
    complete = query("corrections/complete_rows").replace("%(columns)s", "array['designation']")
    created = (query("corrections/create_table"), _CORRECTION)
    completed = (*created, complete)
    marked = (*completed, query("corrections/mark_changes"), begin)
    return {
        "corrections/complete_rows": Case(parameters={"columns": ["designation"]}, before=created),
        "corrections/faults": Case(before=completed),
        "corrections/new_products": Case(before=completed),
        "corrections/training_texts": Case(before=completed),
        "corrections/mark_changes": Case(before=completed),
        "corrections/count_changes": Case(before=marked),
        "corrections/write_products": Case(before=marked),
        "corrections/write_labels": Case(before=marked),
        "corrections/unfinished_batch": Case(),
        "corrections/confirm_labels": Case(parameters={"productids": [1, 2]}),
    }


def _snapshot_queries(connection: psycopg.Connection, batches: dict[str, int]) -> dict[str, Case]:
    marks = connection.execute("select batch_name, products_up_to, labels_up_to from batches").fetchall()
    watermarks = {name: (products, labels) for name, products, labels in marks}
    products_after, labels_after = watermarks[f"correction_{CORRECTIONS}"]
    products_up_to, labels_up_to = watermarks["week_3"]
    between = {
        "products_after": products_after,
        "products_up_to": products_up_to,
        "labels_after": labels_after,
        "labels_up_to": labels_up_to,
    }
    [last] = connection.execute("select productid from products where sample_rank = 0").fetchone()
    batch_id = batches["week_3"]
    settings = tuple(
        f"set local rakuten_read.{name} = '{value}'"
        for name, value in {**between, "batch_id": batch_id}.items()
    )
    # a range of history ids, as one of Spark's tasks reads it
    products_range, labels_range = (
        (f"set local rakuten_read.after = '{up_to // 2}'", f"set local rakuten_read.up_to = '{up_to}'")
        for up_to in (products_up_to, labels_up_to)
    )
    unchecked = f"update data_loads set metadata = metadata #- '{{load,held_out}}' where id = {batch_id}"
    return {
        "snapshot/batch_rows": Case(before=settings),
        "snapshot/added_rows": Case(before=settings),
        "snapshot/product_entries": Case(before=products_range),
        "snapshot/label_entries": Case(before=labels_range),
        "snapshot/entry_texts": Case(before=products_range),
        "snapshot/has_only_additions": Case(parameters={**between, "last_productid": last}),
        "snapshot/changes_of_batch": Case(parameters={"batch_id": batch_id}),
        "snapshot/drift_groups": Case(parameters={"batch_id": batch_id}),
        "snapshot/texts_without_holdout_check": Case(
            parameters={"batch_id": batch_id},
            before=("alter table data_loads disable trigger _200_unchanged", unchecked),
        ),
    }


def _provenance_queries(connection: psycopg.Connection, batches: dict[str, int]) -> dict[str, Case]:
    [productid] = connection.execute("select min(productid) from products").fetchone()
    [productids] = connection.execute(
        "select array_agg(productid) from products where id % 400 = 1"
    ).fetchone()
    of_product = {"productid": productid}
    two_batches = {"earlier": batches["correction_1"], "later": batches["week_3"]}
    return {
        "provenance/unrecorded_changes": Case(),
        "provenance/batch_chain": Case(),
        "provenance/datasets_of_product": Case(parameters=of_product),
        "provenance/diff_by_class": Case(parameters=two_batches),
        "provenance/diff_of_products": Case(parameters=two_batches),
        "provenance/history_of_product": Case(parameters=of_product),
        "provenance/holdout_of_product": Case(parameters=of_product),
        "provenance/labels_of_products": Case(parameters={"productids": productids}),
        "provenance/product_in_batch": Case(parameters={"batch_id": batches["week_3"], **of_product}),
    }
