"""The week as people usually write it: pandas reads the files and sends every row so far, and PostgreSQL sorts out what is new.

That is the cumulative strategy of the first plan: `read_csv`, a seeded sample, `to_sql`, an upsert, an audit trigger per row.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import pandas as pd
import sqlalchemy
from bench_ground import Ground, Weeks
from bench_measure import Sample, timed

from db.schema import engine
from db.source.training_set import X_TRAIN, Y_TRAIN
from shared.config import Settings, target_rows

_TABLES = {
    "products": ["productid", "designation", "description", "imageid", "image_path"],
    "labels": ["productid", "prdtypecode"],
}

Conflict = Literal["update", "nothing"]


def database_name(week: int) -> str:
    return f"usual_{week}"


def prepare(ground: Ground, weeks: Weeks, week: int) -> None:
    """A database with the usual tables, filled as far as this week."""
    database = weeks.database(database_name(week))
    weeks.create(database.settings.postgres_db)
    with weeks.as_superuser(database) as connection:
        connection.execute((Path(__file__).parent / "usual_load.sql").read_text(encoding="utf-8"))
        frame = _rows_up_to(ground.settings, week)
        for table, columns in _TABLES.items():
            statement = f"copy {table} ({', '.join(columns)}) from stdin (format csv)"
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                copy.write(frame[columns].to_csv(header=False, index=False))
    weeks.settle(database)


def load_week(weeks: Weeks, before: int, conflict: Conflict) -> Sample:
    """From the files to the committed rows."""

    def load(connection: sqlalchemy.Connection) -> None:
        frame = _rows_up_to(weeks.ground.settings, before + 1)
        for table, columns in _TABLES.items():
            frame[columns].to_sql(f"incoming_{table}", connection, index=False)
            connection.execute(sqlalchemy.text(_merge(table, columns, conflict)))
            connection.execute(sqlalchemy.text(f"drop table incoming_{table}"))
        connection.commit()

    return _measure(weeks, before, load)


def append_week(weeks: Weeks, before: int) -> Sample:
    """Only the new rows, and they are in a frame already."""
    settings = weeks.ground.settings
    loaded = len(_rows_up_to(settings, before))
    frame = _rows_up_to(settings, before + 1).iloc[loaded:]

    def append(connection: sqlalchemy.Connection) -> None:
        for table, columns in _TABLES.items():
            frame[columns].to_sql(table, connection, if_exists="append", index=False)
        connection.commit()

    return _measure(weeks, before, append)


def _rows_up_to(settings: Settings, week: int) -> pd.DataFrame:
    products = pd.read_csv(settings.data_path / X_TRAIN, index_col=0)
    labels = pd.read_csv(settings.data_path / Y_TRAIN, index_col=0)
    rows = target_rows(len(products), settings.percentage_of(week))
    frame = products.join(labels).sample(rows, random_state=settings.random_seed)
    ids = "image_" + frame["imageid"].astype(str) + "_product_" + frame["productid"].astype(str)
    return frame.assign(image_path="images/image_train/" + ids + ".jpg")


def _merge(table: str, columns: list[str], conflict: Conflict) -> str:
    changes = ", ".join(f"{column} = excluded.{column}" for column in columns[1:])
    action = f"do update set {changes}" if conflict == "update" else "do nothing"
    names = ", ".join(columns)
    return (
        f"insert into {table} ({names}) select {names} from incoming_{table} on conflict (productid) {action}"
    )


def _measure(weeks: Weeks, before: int, action: Callable[[sqlalchemy.Connection], None]) -> Sample:
    with weeks.copy_of(database_name(before)) as database:
        conninfo = weeks.server.conninfo(database.settings.postgres_db)
        with engine(conninfo, "benchmark to_sql").connect() as connection:
            backend_pid = connection.scalar(sqlalchemy.text("select pg_backend_pid()"))
            return timed(partial(action, connection), backend_pid)
