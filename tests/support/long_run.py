"""Run the pipeline for 21 weeks, with ten corrections, one rollback and one outage, as a user would: `long_run.py FOLDER`.

It takes about ten minutes. `rakuten report` of the folder then shows each thing that the report can show.
"""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import psycopg
from psycopg.rows import dict_row
from run_pages import reader_environment
from waiting import eventually

ROWS: Final = 6000
WEEKS: Final = 21
CORRECTED_AFTER: Final = range(2, 21, 2)  # ten weeks
ROLLED_BACK_AFTER: Final = 13
OUTAGE_AT: Final = 17
DEADLINE_S: Final = 900


class LongRun:
    def __init__(self, state: Path):
        self.state = state
        self.environment = reader_environment() | {
            "STATE_PATH": str(state),
            "DATA_PATH": str(state / f"generated-{ROWS}"),
            "COLUMNS": "150",
        }

    def rakuten(self, *arguments: str) -> str:
        print("rakuten", *arguments, flush=True)
        return subprocess.run(
            ["rakuten", *arguments],  # noqa: S607
            env=self.environment,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        ).stdout

    def make(self) -> None:
        self.rakuten("demo", "--rows", str(ROWS), "--weeks", "1")
        with self.running():
            for week in range(2, WEEKS + 1):
                if week == OUTAGE_AT:
                    with self.outage():
                        self.rakuten("load", "--week", str(week))
                        eventually(lambda: self.has("outages"), DEADLINE_S, report=str)
                else:
                    self.rakuten("load", "--week", str(week))
                self.wait()
                if week in CORRECTED_AFTER:
                    self.correct(week)
                if week == ROLLED_BACK_AFTER:
                    self.rakuten(
                        "rollback", "--reason", "a customer found wrong classes in the catalogue of books"
                    )

    @contextmanager
    def running(self) -> Iterator[None]:
        with (self.state / "up.log").open("w") as log:
            up = subprocess.Popen(
                ["rakuten", "up", "--no-mlflow"],  # noqa: S607
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        try:
            eventually(lambda: "next week" in (self.state / "up.log").read_text(), DEADLINE_S, report=str)
            self.url = self.rakuten("db", "url").strip()
            yield
        finally:
            up.terminate()
            up.wait(timeout=120)

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Another program locks MLflow's database."""
        with closing(sqlite3.connect(self.state / "mlflow" / "mlflow.db", isolation_level=None)) as other:
            other.execute("begin exclusive")
            yield
            other.execute("rollback")

    def correct(self, week: int) -> None:
        """Give the twenty most suspicious products the class that the models suggest."""
        file = self.state / f"suspects-{week}.csv"
        self.rakuten("suspects", "--top", "20", "--out", str(file))
        self.rakuten(
            "correct",
            str(file),
            "--reason",
            f"the most suspicious labels after week {week}, read by a person",
        )
        self.wait()

    def ledger(self) -> list[dict]:
        with psycopg.connect(self.url, row_factory=dict_row) as connection:
            return connection.execute("select * from stage_ledger").fetchall()

    def has(self, column: str) -> bool:
        return any(row[column] for row in self.ledger())

    def wait(self) -> None:
        """Until each batch has its model."""
        eventually(lambda: all(row["state"] == "finished" for row in self.ledger()), DEADLINE_S, report=str)


if __name__ == "__main__":
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    LongRun(folder).make()
