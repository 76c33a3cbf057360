"""What a correction is about: products of a split, as they are now, and their entries in the history."""

from table_rows import rows_of

STATE = "productid, designation, description, imageid, image_path, sample_rank, split, prdtypecode"


def product(connection, productid: int) -> dict[str, object] | None:
    """The product with its label, as the views show it."""
    statement = f"select {STATE} from products left join labels using (productid) where productid = %s"
    names = STATE.split(", ")
    found = rows_of(connection, statement, productid)
    return dict(zip(names, found[0], strict=True)) if found else None


def some(connection, split: str, count: int = 1, first: int = 0) -> list[int]:
    """Productids of a split, by rank."""
    statement = "select productid from products where split = %s order by sample_rank limit %s offset %s"
    return [productid for (productid,) in rows_of(connection, statement, split, count, first)]


def entries(connection, productid: int, table: str = "products") -> list[tuple]:
    return rows_of(
        connection,
        f"select operation_type, batch_name, changed_by, application from {table}_history"
        " left join data_loads on data_loads.id = load_batch_id where productid = %s order by history_id",
        productid,
    )[1:]
