"""Check the written files of a dataset against the products of its batch, as aggregates of Spark."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from listeners.snapshot.spark.balance import Balanced
from shared.errors import VerificationError


def verify(written: DataFrame, balanced: Balanced, held_out: DataFrame) -> None:
    """Check that a dataset holds each training product of its batch, with its copies and its class, and no other product.

    Args:
        written: prdtypecode, productid and copies of each distinct row in the written files.
        balanced: the training products of the batch.
        held_out: productid of each held-out product of the batch.

    Raises:
        VerificationError: a product is missing, held out, foreign, doubled or of another class, or the classes differ in size.
    """
    expected = balanced.products.select(
        "productid", "prdtypecode", "copies", f.lit(True).alias("may_occur")
    ).unionByName(
        held_out.select(
            "productid",
            f.lit(None).cast("int").alias("prdtypecode"),
            f.lit(None).cast("long").alias("copies"),
            f.lit(False).alias("may_occur"),
        )
    )
    found = written.select(
        "productid", f.col("prdtypecode").alias("found_code"), f.col("copies").alias("found_copies")
    )
    is_found = "found_code is not null"
    checks = {
        "products of the holdout": f"{is_found} and not may_occur",
        "products that are not in the batch": f"{is_found} and may_occur is null",
        "products with another class": f"{is_found} and may_occur and found_code <> prdtypecode",
        "products with another number of copies": f"{is_found} and may_occur and found_copies <> copies",
        "missing products": "found_code is null and may_occur",
    }
    counted = found.join(expected, "productid", "full_outer").agg(
        *(f.count_if(f.expr(condition)).alias(problem) for problem, condition in checks.items()),
        f.count_if(f.expr("found_code is not null and may_occur")).alias("rows"),
    )
    [row] = counted.toArrow().to_pylist()
    doubled = row.pop("rows") - sum(balanced.source_rows.values())
    problems = {**row, "products with two different rows": max(0, doubled)}
    sizes = {
        record["prdtypecode"]: record["rows"]
        for record in written.groupBy("prdtypecode").agg(f.sum("copies").alias("rows")).toArrow().to_pylist()
    }
    if unequal := {code: rows for code, rows in sizes.items() if rows != balanced.rows_per_class}:
        problems[f"classes that do not have {balanced.rows_per_class} rows"] = len(unequal)
    if wrong := [f"{count} {problem}" for problem, count in problems.items() if count]:
        raise VerificationError(f"the written dataset differs from its batch: {', '.join(wrong)}")
