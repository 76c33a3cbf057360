"""What the tables hold, read without leaving a transaction open."""


def rows_of(connection, statement: str, *parameters: object) -> list[tuple]:
    rows = connection.execute(statement, parameters).fetchall()
    connection.rollback()
    return rows


def batches(connection) -> list[tuple]:
    return rows_of(
        connection, "select batch_name, percentage, total_rows, status from data_loads order by id"
    )


def history(connection) -> list[tuple]:
    return rows_of(
        connection,
        """
        select operation_type, productid, designation, description, sample_rank, split, batch_name
        from products_history left join data_loads on data_loads.id = load_batch_id order by history_id
        """,
    ) + rows_of(
        connection,
        """
        select operation_type, productid, prdtypecode, batch_name
        from labels_history left join data_loads on data_loads.id = load_batch_id order by history_id
        """,
    )


def everything(connection) -> list[list[tuple]]:
    tables = ("products", "labels", "data_loads", "products_history", "labels_history")
    return [rows_of(connection, f"select * from {table} order by 1") for table in tables]
