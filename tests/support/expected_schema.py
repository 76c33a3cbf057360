"""Write db/sql/expected_schema.tsv: the schema of a new database. `make schema` runs this."""

import tempfile
from pathlib import Path

from repository import ROOT

from db.database import Role, prepare_embedded
from db.embedded import EmbeddedPostgres
from db.protections import read_schema
from shared.config import read_settings

PATH = ROOT / "db/sql/expected_schema.tsv"


def as_text(database) -> str:
    with database.connect(Role.READER, "test") as connection:
        return "".join(
            "\t".join((*key, text)) + "\n" for key, text in sorted(read_schema(connection).items())
        )


if __name__ == "__main__":
    PATH.touch()
    with tempfile.TemporaryDirectory() as directory, EmbeddedPostgres(Path(directory) / "postgres") as server:
        PATH.write_text(as_text(prepare_embedded(read_settings(_env_file=None), server)), encoding="utf-8")
